-- snabb snsh vlan_peer.lua INTERFACE TAP VLAN: what is tagged on the interface is plain on the tap, and the other way
-- round: a peer that speaks VLAN, also where the kernel does not. Ends when standard input does.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "../../docker/switch/?.lua"
local S = require("syscall")
local app, config, lib = require("core.app"), require("core.config"), require("core.lib")
local vlan = require("apps.vlan.vlan")

local interface, tap, tag = unpack(main.parameters)
require("device").prepare({ device = { kind = "tap" } })
local c = config.new()
config.app(c, "wire", require("raw_socket").Raw, { interface = interface })
config.app(c, "tap", require("tap").Tap, { interface = tap, mtu = 1500 })
config.app(c, "tagger", vlan.Tagger, { tag = tonumber(tag) })
config.app(c, "untagger", vlan.Untagger, { tag = tonumber(tag) })
config.link(c, "wire.tx -> untagger.input")
config.link(c, "untagger.output -> tap.input")
config.link(c, "tap.output -> tagger.input")
config.link(c, "tagger.output -> wire.rx")
app.configure(c)

local poll = S.types.t.pollfds({ { fd = S.stdin, events = "in" } })
local soon = lib.throttle(0.05)
app.main({ no_report = true, done = function () return soon() and S.poll(poll, 0) > 0 end })
