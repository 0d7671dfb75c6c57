-- What the launcher asks for: reading it, and saying in one line what is wrong with it.

local json = require("lib.json")
local lib = require("core.lib")

local M = {}

-- Which settings a device of each kind is told by, and what it can do.
local PCI, INTERFACE = "pci", "interface"
M.kinds = {
    intel_mp = { by = PCI, largest_mtu = 9000, vmdq = true },
    intel_avf = { by = PCI, largest_mtu = 9000 },
    connectx = { by = PCI, largest_mtu = 9000, vmdq = true },
    virtio_net = { by = PCI, largest_mtu = 9000 },
    raw = { by = INTERFACE, largest_mtu = 9000 },
    tap = { by = INTERFACE, largest_mtu = 9000 },
    -- One page of memory each, less Snabb's own headers (apps/xdp/README.md), the Ethernet header and a VLAN tag.
    xdp = { by = INTERFACE, largest_mtu = 3582 - 18 },
}

-- These take effect while frames flow; all others need a new switch.
M.live = { vlan = true, filterIn = true, filterOut = true, rxLimit = true, txLimit = true }

-- What is wrong with a pcap-filter text, in one line, or nil.
function M.filter_error (text)
    local ok, reason = pcall(require("pf").compile_filter, text)
    if ok then return nil end
    reason = tostring(reason):gsub("^[^ ]+:%d+: ", "")
    -- The parser's message shows the expression, then a caret below, then what it thinks of it.
    reason = reason:match("%^%s*\n(.+)") or reason
    reason = reason:match("^%s*([^\n]-)%.? Likely causes") or reason:match("^%s*([^\n]*)")
    return reason == "" and "it does not parse" or reason
end

local function is_number (lowest, highest)
    return function (value)
        return type(value) == "number" and value >= lowest and value <= highest and value == math.floor(value)
    end
end
local function is_text (value) return type(value) == "string" and value ~= "" end
local function matches (pattern)
    return function (value) return type(value) == "string" and value:match(pattern) ~= nil end
end
local hex2 = "%x%x"

local fields = {
    name = is_text,
    -- sockaddr_un has room for no more.
    socket = function (value) return is_text(value) and #value < 108 end,
    device = function (value) return type(value) == "table" end,
    cpu = is_number(0, 1023),
    mac = matches("^" .. hex2 .. (":" .. hex2):rep(5) .. "$"),
    vmdq = function (value) return type(value) == "boolean" end,
    -- The guest has one pair of rings.
    queues = is_number(1, 1),
    mtu = is_number(68, 9000),
    vlan = is_number(1, 4094),
    filterIn = is_text,
    filterOut = is_text,
    rxLimit = is_number(1, 1e15),
    txLimit = is_number(1, 1e15),
}
local required = { "name", "socket", "device" }

local function check (settings)
    for name, value in pairs(settings) do
        if not fields[name] then error(("unknown setting %s"):format(name), 0) end
        if not fields[name](value) then error(("%s: invalid value"):format(name), 0) end
    end
    for _, name in ipairs(required) do
        if settings[name] == nil then error(("%s is missing"):format(name), 0) end
    end
    settings.mtu = settings.mtu or 1500
    local device = settings.device
    local kind = M.kinds[device.kind]
    if not kind then error(("device: unknown kind %s"):format(tostring(device.kind)), 0) end
    if kind.by == PCI and not matches("^%x%x%x%x:%x%x:%x%x%.%x$")(device.pci) then
        error("device: pci must be a full address such as 0000:05:00.0", 0)
    end
    if kind.by == INTERFACE and not (is_text(device.interface) and #device.interface < 16) then
        error("device: interface must be the name of a network interface", 0)
    end
    if settings.mtu > kind.largest_mtu then
        error(("mtu: %s takes up to %d"):format(device.kind, kind.largest_mtu), 0)
    end
    if settings.vmdq and not kind.vmdq then error(("vmdq: %s has no such mode"):format(device.kind), 0) end
    if settings.vmdq and not settings.mac then error("vmdq: needs mac", 0) end
    for _, name in ipairs({ "filterIn", "filterOut" }) do
        local reason = settings[name] and M.filter_error(settings[name])
        if reason then error(("%s: %s"):format(name, reason), 0) end
    end
end

-- Returns the settings in a file, or nil and what is wrong.
function M.read (path)
    local file, reason = io.open(path)
    if not file then return nil, reason end
    local text = file:read("*a")
    file:close()
    local ok, settings = pcall(json.decode, text)
    if not ok or type(settings) ~= "table" then return nil, ("%s: not a JSON object"):format(path) end
    -- The decoder has a function for null, which is the same as nothing here.
    for name, value in pairs(settings) do
        if type(value) == "function" then settings[name] = nil end
    end
    ok, reason = pcall(check, settings)
    if not ok then return nil, ("%s: %s"):format(path, reason) end
    return settings
end

-- The first setting that differs and can't change while running, or nil.
function M.first_fixed_difference (old, new)
    for _, settings in ipairs({ old, new }) do
        for name in pairs(settings) do
            if not M.live[name] and not lib.equal(old[name], new[name]) then return name end
        end
    end
end

return M
