-- snabb snsh port.lua SETTINGS.json: the port program as it is, on a device that is nothing but a piece of wire: what
-- goes out comes back. The device's kind is "wire". It is a stand-in that costs nothing: its app is taken out of the
-- network again, and the two links to it are made one.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local program = here .. "../docker/switch/"
package.path = program .. "?.lua"

local app = require("core.app")
local config = require("core.config")
local device = require("device")
local settings = require("settings")

settings.kinds.wire = { by = "interface", largest_mtu = 9000 }

function device.add (_, name, s)
    assert(s.device.kind == "wire")
    return { input = name .. ".input", output = name .. ".output" }
end

-- Memory and ending as with the devices behind the kernel.
local prepare = device.prepare
function device.prepare () prepare({ device = { kind = "raw" } }) end

local configure = app.configure
function app.configure (c)
    local from, to
    for spec in pairs(c.links) do
        local from_app, from_port, to_app, to_port = config.parse_link(spec)
        if to_app == "nic" then
            from = from_app .. "." .. from_port
            c.links[spec] = nil
        elseif from_app == "nic" then
            to = to_app .. "." .. to_port
            c.links[spec] = nil
        end
    end
    if from then config.link(c, ("%s -> %s"):format(from, to)) end
    configure(c)
end

dofile(program .. "port.lua")
