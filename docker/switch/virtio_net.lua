-- Snabb's driver for virtio-net by PCI address (lib.virtio.net_driver and below, v2024.08) was made for one host's
-- device. What keeps it from driving QEMU's legacy device (`disable-modern=on`) is cured here, in the same manner as in
-- vhost_user.lua.

local bit = require("bit")
local packet = require("core.packet")
local pci = require("lib.hardware.pci")

local overlay = require("overlay")
local wrap = overlay.wrap
local M = overlay.new()
local cure = M.cure

cure("virtio-header", function ()
    -- Upstream loads one header under two names, by this driver and by the vhost-user app: the second time LuaJIT
    -- refuses to redefine its structures, and the switch does not start.
    require("lib.virtio.virtio_vring_h")
    package.loaded["lib.virtio.virtio_vring.h"] = true
end)

cure("virtio-alignment", function ()
    -- Upstream aligns a ring to 128 bytes, and tells the device the number of its 4 KiB page: the device looks at the
    -- wrong place.
    local memory = require("core.memory")
    wrap(require("lib.virtio.virtq_driver"), "allocate_virtq", function (allocate_virtq, count)
        local dma_alloc = memory.dma_alloc
        memory.dma_alloc = function (bytes) return dma_alloc(bytes, 4096) end
        local ok, ring = pcall(allocate_virtq, count)
        memory.dma_alloc = dma_alloc
        return ok and ring or error(ring, 0)
    end)
end)

-- The methods of rings are hidden in a metatype: what concerns them is done around the calls.
local function driver () return require("lib.virtio.net_driver").VirtioNetDriver end
local RXQ, TXQ = 0, 1

cure("virtio-sent", function ()
    -- Upstream takes the length that the device wrote for a frame sent, which is 0 (nothing was written), for that of
    -- the frame, and dies by an assertion as it takes off the header. Its own descriptor knows it.
    driver().recycle_transmit_buffers = function (self)
        local ring = self.vqs[TXQ]
        for _ = 1, ring:can_get() do
            local used = ring.vring.used.ring[bit.band(ring.last_used_idx, ring.num - 1)]
            used.len = ring.vring.desc[used.id].len
            packet.free(ring:get())
        end
    end
end)

cure("virtio-receive", function ()
    -- Upstream does not mark its buffers as ones to write into, and QEMU takes the device for broken; nor does it tell
    -- the device of new ones, which after the first ring of frames waits for ever.
    local WRITE = 2
    driver().add_receive_buffers = function (self)
        local ring = self.vqs[RXQ]
        local free = ring:can_add()
        if free == 0 then return end
        for _ = 1, free do
            local id = ring.free_head
            ring:add_empty_header(packet.allocate(), packet.max_payload)
            ring.vring.desc[id].flags = WRITE
        end
        ring:update_avail_idx()
        if ring:should_notify() then self.virtio_pci:notify_queue(RXQ) end
    end
end)

cure("virtio-end", function ()
    -- Upstream does not enable bus mastering, which QEMU forgives a legacy driver and hardware would not. Snabb's
    -- supervisor disables it when the switch is killed, but only where Snabb enabled it: here the device would go on
    -- writing into memory that is no longer Snabb's. On after the first reset, off after the last.
    local VirtioPci = require("lib.virtio.virtio_pci").VirtioPci
    wrap(VirtioPci, "new", function (new, class, address)
        local self = new(class, address)
        self.address = address
        return self
    end)
    wrap(VirtioPci, "driver_ok", function (driver_ok, self)
        pci.set_bus_master(self.address, true)
        driver_ok(self)
    end)
    driver().close = function (self)
        self.virtio_pci:reset()
        pci.set_bus_master(self.virtio_pci.address, false)
        self.virtio_pci._bar:close()
    end
end)

return M
