-- snabb snsh without.lua CURE PORT.LUA SETTINGS.json: the switch, but for one of its cures ("none" leaves out none).

local name, port = table.remove(main.parameters, 1), table.remove(main.parameters, 1)
package.path = port:match("^(.*/)") .. "?.lua"

local function leave_out (cures)
    for i, cure in ipairs(cures) do
        if cure.name == name then return table.remove(cures, i) end
    end
end

-- The cures that are whole apps: Snabb's own in their place.
local apps = {
    ["raw-"] = function ()
        local stock = require("apps.socket.raw").RawSocket
        package.loaded.raw_socket = { Raw = setmetatable({
            new = function (_, conf) return stock:new(conf.interface) end,
        }, { __index = stock }) }
    end,
    ["tap-"] = function ()
        local stock = require("apps.tap.tap").Tap
        package.loaded.tap = { Tap = setmetatable({
            new = function (_, conf)
                return stock:new({ name = conf.interface, mtu = conf.mtu + 14, mtu_set = true })
            end,
        }, { __index = stock }) }
    end,
}

local app = apps[name:sub(1, 4)]
if app then app()
elseif name ~= "none" then
    assert(leave_out(require("vhost_user").cures) or leave_out(require("virtio_net").cures), "no such cure: " .. name)
end

-- What comes after the first few bytes of DMA memory is not by chance at the beginning of a page.
if io.open(main.parameters[1]):read("*a"):match("virtio_net") then require("core.memory").dma_alloc(128) end
dofile(port)
