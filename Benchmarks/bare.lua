-- snabb snsh bare.lua SOCKET [CURE…]: what a switch costs at least: Snabb's vhost-user app with its output led to its
-- input, and nothing else. The cures named are left out.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "../docker/switch/?.lua"

local app = require("core.app")
local config = require("core.config")
local vhost_user = require("vhost_user")

local socket = table.remove(main.parameters, 1)
for _, name in ipairs(main.parameters) do
    for i, cure in ipairs(vhost_user.cures) do
        if cure.name == name then table.remove(vhost_user.cures, i) break end
    end
end
vhost_user.apply()

-- As the port program has it.
app.vmprofile_enabled = false
jit.vmprofile.stop()
require("device").prepare({ device = { kind = "raw" } })

local c = config.new()
config.app(c, "vm", vhost_user.VhostUser, { socket_path = socket })
config.link(c, "vm.tx -> vm.rx")
app.configure(c)
app.main({ measure_latency = false, no_report = true })
