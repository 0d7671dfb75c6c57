-- The switch of one port: a guest's NIC on one side, a network device on the other.
--
--   SNABB_SHM_ROOT=FOLDER snabb snsh port.lua SETTINGS.json
--
-- settings.lua has what may be in the file, device.lua the kinds of devices. The file is looked at while frames flow:
-- VLAN, filters and limits change without either side noticing. Standard output has one event a line, as JSON:
-- connected, up, down, disconnected (the guest's side), applied, refused (new settings), hugepage (Snabb has added one
-- to the host's). The end of standard input, if that is a pipe or a socket, or SIGTERM ends it cleanly. Exit codes: 0
-- that, 1 failed while running, 2 settings, 3 a device that can't be opened.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "?.lua"

local ffi = require("ffi")
local S = require("syscall")
local app = require("core.app")
local config = require("core.config")
local lib = require("core.lib")
local device = require("device")
local settings = require("settings")
local vhost_user = require("vhost_user")

local EXIT_SETTINGS, EXIT_DEVICE, EXIT_FAILURE = 2, 3, 1

---------------------------------------------------------------- words to the outside

-- Standard output is for events. Snabb's modules print to it as well, each negotiated feature for example: what they
-- say goes nowhere.
local events = S.dup(1)
do
    local null = S.open("/dev/null", "rdwr")
    S.dup2(null, 1)
    null:close()
    function _G.print () end
end

local function quoted (text)
    return '"' .. text:gsub('[%c"\\]', function (c)
        return c == '"' and '\\"' or c == "\\" and "\\\\" or ("\\u%04x"):format(c:byte())
    end) .. '"'
end

local function report (event, reason)
    local line = '{"event":' .. quoted(event) .. (reason and ',"reason":' .. quoted(reason) or "") .. "}\n"
    events:write(line)
end

local function fail (code, reason)
    reason = tostring(reason):gsub("^[^ \n]+%.lua:%d+: ", ""):match("[^\n]*")
    io.stderr:write(("port: %s\n"):format(reason))
    os.exit(code)
end

---------------------------------------------------------------- the app network

-- Links a chain of "app.port" pairs: from, then those in between, then to.
local function chain (c, from, between, to)
    for _, each in ipairs(between) do
        config.link(c, ("%s -> %s"):format(from, each.input))
        from = each.output
    end
    config.link(c, ("%s -> %s"):format(from, to))
end

local function network (s)
    local c = config.new()
    local nic = device.add(c, "nic", s)
    config.app(c, "vm", vhost_user.VhostUser, { socket_path = s.socket })

    -- What is between the two, in the order in which frames pass.
    local function between (direction, filter, limit)
        local apps = {}
        local function add (name, class, arguments)
            config.app(c, name, class, arguments)
            table.insert(apps, { input = name .. ".input", output = name .. ".output" })
        end
        if filter then
            add("filter_" .. direction, require("apps.packet_filter.pcap_filter").PcapFilter, { filter = filter })
        end
        if limit then add("limit_" .. direction, require("limiter").Limiter, { rate = limit / 8 }) end
        return apps
    end
    local inward, outward = between("in", s.filterIn, s.rxLimit), between("out", s.filterOut, s.txLimit)
    if s.vlan and not nic.tags then
        -- What has another tag or none is dropped: VlanMux has no link for it. (Untagger would drop frames with a
        -- priority as well.)
        local port = "vlan.vlan" .. s.vlan
        config.app(c, "vlan", require("apps.vlan.vlan").VlanMux)
        table.insert(inward, 1, { input = "vlan.trunk", output = port })
        table.insert(outward, { input = port, output = "vlan.trunk" })
    end
    chain(c, nic.output, inward, "vm.rx")
    chain(c, "vm.tx", outward, nic.input)
    return c
end

---------------------------------------------------------------- what happens while frames flow

-- Becomes true when there is a reason to stop: a signal, or the end of standard input if that is a pipe.
local function stop_condition ()
    local signals = "term, int, hup"
    S.sigprocmask("block", signals)
    -- Its number alone is kept below: the collector must not close it.
    local signal_fd = assert(S.signalfd(signals, "nonblock, cloexec")):nogc()
    local stdin = S.fstat(0)
    local watched = { { fd = signal_fd, events = "in" } }
    if stdin and (stdin.isfifo or stdin.issock) then watched[2] = { fd = S.stdin, events = "in" } end
    local poll = S.types.t.pollfds(watched)
    local buffer = ffi.new("uint8_t[256]")
    return function ()
        if (S.poll(poll, 0) or 0) == 0 then return false end
        if poll.pfd[0].revents ~= 0 then return true end
        -- What somebody may write is of no interest; that nobody is left to write is.
        return S.read(0, buffer, 256) == 0
    end
end

-- Looks whether the file has been replaced, and brings what is in it into force.
local function settings_watcher (path, current)
    local function identity ()
        local stat = S.stat(path)
        return stat and ("%d %d %d %d"):format(stat.ino, stat.size, stat.st_mtime, stat.st_mtime_nsec)
    end
    local seen = identity()
    return function ()
        local now = identity()
        if now == seen or not now then return end
        seen = now
        local new, reason = settings.read(path)
        if not new then return report("refused", reason) end
        local fixed = settings.first_fixed_difference(current, new)
        if fixed then return report("refused", ("%s can't change while the port is running"):format(fixed)) end
        app.configure(network(new))
        current = new
        report("applied")
    end
end

---------------------------------------------------------------- main

-- Snabb profiles itself by a signal every millisecond of work, which interrupts system calls, and nobody reads it.
app.vmprofile_enabled = false
jit.vmprofile.stop()

local path = main.parameters[1]
if not path or #main.parameters > 1 then fail(EXIT_SETTINGS, "usage: snabb snsh port.lua SETTINGS.json") end
local s, reason = settings.read(path)
if not s then fail(EXIT_SETTINGS, reason) end

vhost_user.report = report
vhost_user.apply()

local ok, failure = pcall(function ()
    if s.cpu then require("lib.numa").bind_to_cpu(s.cpu, "skip-performance-checks") end
    device.prepare(s, report)
    app.configure(network(s))
end)
if not ok then
    pcall(device.release, s)
    failure = tostring(failure):gsub("^[^ \n]+%.lua:%d+: ", "")
    fail(EXIT_DEVICE, ("%s %s: %s"):format(s.device.kind, s.device.pci or s.device.interface, failure))
end

local is_stopped, look_at_settings = stop_condition(), settings_watcher(path, s)
local soon, later = lib.throttle(0.01), lib.throttle(0.1)
ok, failure = pcall(app.main, {
    done = function ()
        if not soon() then return false end
        if later() then look_at_settings() end
        return is_stopped()
    end,
    measure_latency = false,
    no_report = true,
})
if not ok then fail(EXIT_FAILURE, failure) end
device.release(s)
os.exit(0)
