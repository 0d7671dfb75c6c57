-- A tap interface. Snabb's own app (apps.tap.tap) ends the switch when the kernel refuses a frame, which it does while
-- the interface is down and for frames shorter than an Ethernet header, that is, at the guest's pleasure.
-- (Nothing need be done about offloads here: without TUNSETOFFLOAD the kernel completes and splits frames itself.)

local S = require("syscall")
local counter = require("core.counter")
local link = require("core.link")
local packet = require("core.packet")
local StockTap = require("apps.tap.tap").Tap

local Tap = setmetatable({}, { __index = StockTap })

function Tap:new (conf)
    -- `mtu` counts the Ethernet header. A tap of another MTU would be refused: it is set instead.
    local o = StockTap.new(self, { name = conf.interface, mtu = conf.mtu + 14, mtu_set = true })
    o.shm.txdrop = { counter }
    o.zone = "tap"
    return setmetatable(o, { __index = Tap })
end

function Tap:push ()
    local input = self.input.input
    while not link.empty(input) do
        local p = link.front(input)
        local written, err = S.write(self.fd, p.data, p.length)
        if err and err.AGAIN then return end
        if err and err.BADFD then error(("interface %s is gone"):format(self.name)) end
        if written then
            counter.add(self.shm.txbytes, p.length)
            counter.add(self.shm.txpackets)
        else
            counter.add(self.shm.txdrop)
        end
        packet.free(link.receive(input))
    end
end

return { Tap = Tap }
