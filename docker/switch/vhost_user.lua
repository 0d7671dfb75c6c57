-- Snabb's vhost-user app (v2024.08) was written for the QEMU of 2015. What stands between it and today's is cured here,
-- as an overlay: each cure says what upstream does and what goes wrong.

local bit = require("bit")
local ffi = require("ffi")
local S = require("syscall")
local counter = require("core.counter")
local lib = require("core.lib")
local link = require("core.link")
local packet = require("core.packet")
local VhostUser = require("apps.vhost.vhost_user").VhostUser
local VirtioNetDevice = require("lib.virtio.net_device").VirtioNetDevice

local C = ffi.C
local band = bit.band

local VERSION_1 = 2^32
local RINGS = 2 -- the guest's receive ring is number 0, its transmit ring number 1

local overlay = require("overlay")
local wrap = overlay.wrap
local M = overlay.new()
local cure = M.cure

M.VhostUser = VhostUser

-- What listeners hear: "connected", "up", "down", "disconnected".
function M.report (event) end

local function close_all (fds, nfds)
    for i = 0, nfds - 1 do C.close(fds[i]) end
end

local function has_version_1 (features)
    return math.floor(features / VERSION_1) % 2 == 1
end

-- Upstream counts nothing in this app. Frames dropped on the way to the guest because they did not fit or because no
-- driver was running, and frames of the guest that could not be passed on:
wrap(VhostUser, "new", function (new, ...)
    local self = new(...)
    self.shm = { rxdrop = { counter }, rxdown = { counter }, txdrop = { counter } }
    return self
end)

local function count (owner, name)
    counter.add(owner.shm[name])
end

---------------------------------------------------------------- the protocol

cure("requests", function ()
    -- Upstream has no handler for SET_VRING_ERR, SET_LOG_BASE and SET_LOG_FD and exits. QEMU sends the first one at
    -- each start. Nothing is to be done for them; but the descriptors they carry are ours to close.
    local function ignore (self, msg, fds, nfds) close_all(fds, nfds) end
    VhostUser.set_vring_err = ignore
    VhostUser.set_log_base = ignore
    VhostUser.set_log_fd = ignore
end)

cure("queue-number", function ()
    -- Upstream reads GET_QUEUE_NUM and says nothing, and the front end waits for the answer for ever.
    function VhostUser:get_queue_num (msg)
        msg.u64 = 1
        msg.size = ffi.sizeof("uint64_t")
        self:reply(msg)
    end
end)

cure("ring-state", function ()
    -- Upstream starts when either ring is kicked or enabled, and takes "disable ring 1" for enabling. QEMU enables the
    -- rings before it has told where they are: nil index, exit. And rings of an earlier connection count as ready when
    -- the next one has told but one of its own: their memory is gone. A ring runs once it has an address, has been
    -- kicked, and has been enabled (which goes without saying unless F_PROTOCOL_FEATURES was negotiated). Both must.
    wrap(VhostUser, "new", function (new, class, args)
        local self = new(class, args)
        self.rings = {}
        for index = 0, RINGS - 1 do self.rings[index] = {} end
        return self
    end)

    local function is_ready (self)
        for index = 0, RINGS - 1 do
            local ring = self.rings[index]
            if not (ring.address and ring.started) then return false end
            if self.enabled_by_request and not ring.enabled then return false end
        end
        return true
    end

    local function noting (name, note)
        wrap(VhostUser, name, function (original, self, msg, ...)
            original(self, msg, ...)
            note(self, msg)
            self.vhost_ready = is_ready(self)
            self:report_changes()
        end)
    end

    local function ring_of (self, index)
        return self.rings[tonumber(index)] or error(("vhost-user: there is no ring %d"):format(tonumber(index)))
    end
    noting("set_features", function (self)
        self.enabled_by_request = band(self.dev.features, C.VHOST_USER_F_PROTOCOL_FEATURES) ~= 0
    end)
    noting("set_vring_addr", function (self, msg) ring_of(self, msg.addr.index).address = true end)
    noting("set_vring_kick", function (self, msg)
        ring_of(self, band(msg.u64, C.VHOST_USER_VRING_IDX_MASK)).started = true
    end)
    noting("set_vring_enable", function (self, msg) ring_of(self, msg.state.index).enabled = msg.state.num ~= 0 end)
    noting("get_vring_base", function (self, msg) ring_of(self, msg.state.index).started = false end)
    noting("reset_owner", function (self)
        for index = 0, RINGS - 1 do self.rings[index] = {} end
    end)
    wrap(VhostUser, "stop", function (stop, self)
        for index = 0, RINGS - 1 do
            self.rings[index] = {}
            self.dev.virtq[index].virtq = nil
        end
        stop(self)
    end)
end)

cure("descriptors", function ()
    -- Upstream closes neither a ring's call and kick descriptors when it is given others nor when QEMU goes: some 7
    -- are lost with each QEMU. With no call descriptor at all (yet) it dies. It polls, so a kick descriptor is of no
    -- use beyond having arrived. A new call descriptor is written to at once, for what may just have been signalled
    -- through the old one in vain.
    local one = ffi.new("uint64_t[1]", { 1 })
    wrap(VirtioNetDevice, "new", function (new, ...)
        local self = new(...)
        for _, ring in pairs(self.virtq) do ring.callfd = -1 end
        return self
    end)
    function VirtioNetDevice:set_vring_call (index, fd)
        local ring = self.virtq[index]
        if ring.callfd >= 0 then C.close(ring.callfd) end
        ring.callfd = fd
        if fd >= 0 then C.write(fd, one, 8) end
    end
    function VirtioNetDevice:set_vring_kick (_, fd) C.close(fd) end
    wrap(VhostUser, "set_vring_call", function (set_vring_call, self, msg, fds, nfds)
        if band(msg.u64, C.VHOST_USER_VRING_NOFD_MASK) ~= 0 then
            self.dev:set_vring_call(tonumber(band(msg.u64, C.VHOST_USER_VRING_IDX_MASK)), -1)
        else
            set_vring_call(self, msg, fds, nfds)
        end
    end)
    wrap(VhostUser, "stop", function (stop, self)
        stop(self)
        for index in pairs(self.dev.virtq) do self.dev:set_vring_call(index, -1) end
    end)
end)

cure("unmap", function ()
    -- Upstream does not unmap a memory table of one region, which is what a small guest has: each QEMU's memory,
    -- hugepages as a rule, stays taken. Of several regions it unmaps whole hugepages, which takes away what is mapped
    -- behind a region of ordinary pages. A mapping is as long as its file's own pages make it.
    wrap(VhostUser, "set_mem_table", function (set_mem_table, self, msg, fds, nfds)
        local pages = {}
        for i = 0, nfds - 1 do pages[i] = tonumber(assert(S.fstat(fds[i])).blksize) end
        set_mem_table(self, msg, fds, nfds)
        for i, region in pairs(self.mem_table) do
            region.mmap_size = lib.align(tonumber(region.mmap_size), pages[i])
            assert(region.mmap_pointer ~= nil, "vhost-user: the guest's memory cannot be mapped")
        end
    end)
    function VhostUser:free_mem_table ()
        for _, region in pairs(self.mem_table) do
            C.vhost_user_unmap_guest_memory(region.mmap_pointer, region.mmap_size)
        end
        self.mem_table = {}
    end
end)

cure("remap", function ()
    -- QEMU may replace the memory table of a running device (memory is plugged in, a PCI window moves). Upstream leaves
    -- the rings where the old table had them, which is no longer mapped. They have the same addresses in the new one.
    local function map (self, addr)
        self.dev.virtq[addr.index].virtq = {
            desc = ffi.cast("struct vring_desc *", self.dev:map_from_qemu(addr.desc)),
            used = ffi.cast("struct vring_used *", self.dev:map_from_qemu(addr.used)),
            avail = ffi.cast("struct vring_avail *", self.dev:map_from_qemu(addr.avail)),
        }
    end
    wrap(VhostUser, "new", function (new, ...)
        local self = new(...)
        self.ring_addresses = {}
        return self
    end)
    wrap(VhostUser, "set_vring_addr", function (set_vring_addr, self, msg)
        local addr = msg.addr
        self.ring_addresses[addr.index] = { index = addr.index, desc = addr.desc_user_addr,
                                            used = addr.used_user_addr, avail = addr.avail_user_addr }
        set_vring_addr(self, msg)
    end)
    wrap(VhostUser, "set_mem_table", function (set_mem_table, self, ...)
        set_mem_table(self, ...)
        for _, addr in pairs(self.ring_addresses) do map(self, addr) end
    end)
    wrap(VhostUser, "get_vring_base", function (get_vring_base, self, msg)
        self.ring_addresses[msg.state.index] = nil
        get_vring_base(self, msg)
    end)
    wrap(VhostUser, "stop", function (stop, self)
        self.ring_addresses = {}
        stop(self)
    end)
end)

cure("messages", function ()
    -- Upstream looks for messages every 500 ms; each question that QEMU asks costs as much, and it asks several before
    -- it lets the guest start. A look is one system call: the timers' own resolution of 1 ms does.
    wrap(VhostUser, "new", function (new, ...)
        local self = new(...)
        self.process_qemu_timer.ticks = 1
        return self
    end)
end)

cure("connect", function ()
    -- Upstream tries to connect in each breath, up to a million times a second, and connect() itself blocks while QEMU
    -- has another client. Every 10 ms is soon enough, and a socket that would block counts as not there.
    wrap(VhostUser, "new", function (new, ...)
        local self = new(...)
        self.may_connect = lib.throttle(0.01)
        return self
    end)
    function VhostUser:client_connect ()
        if not self.may_connect() then return -1 end
        local socket = S.socket("unix", "stream, nonblock, cloexec")
        if not socket then return -1 end
        if not S.connect(socket, S.types.t.sockaddr_un(self.socket_path)) then
            socket:close()
            return -1
        end
        -- From here on Snabb's C code asks for what does not block, and means to block for the rest.
        socket:block()
        socket:nogc()
        return socket:getfd()
    end
end)

cure("sigpipe", function ()
    -- Upstream dies of SIGPIPE when QEMU is gone by the time its question is answered. Reading will tell the end.
    S.signal("pipe", "ign")
end)

---------------------------------------------------------------- features

cure("no-cache", function ()
    -- Upstream keeps the features once negotiated in /tmp/vhost_features_*, and a new switch prefers them to what QEMU
    -- says: another driver in the guest, another header size, and no frame is understood. QEMU says it each time.
    function VhostUser:update_features (features) return features end
end)

cure("checksum", function ()
    -- Upstream offers VIRTIO_NET_F_CSUM, and then marks each frame for the guest that it can't parse, ARP first of all,
    -- as one whose checksum is missing at offset 0: the guest's kernel "completes" it inside the destination address.
    -- Parsing costs a third of the speed besides. (Control and multiple queues are QEMU's or nobody's.)
    wrap(VirtioNetDevice, "new", function (new, ...)
        local self = new(...)
        self.supported_features = self.supported_features - C.VIRTIO_NET_F_CSUM
        return self
    end)
end)

cure("version-1", function ()
    -- Upstream does not offer VIRTIO_F_VERSION_1: behind a PCIe root port, where a device is modern or nothing, QEMU
    -- refuses to start. Its one difference here: the header has 12 bytes, whether buffers are merged or not.
    wrap(VirtioNetDevice, "new", function (new, ...)
        local self = new(...)
        self.supported_features = self.supported_features + VERSION_1
        return self
    end)
    wrap(VirtioNetDevice, "set_features", function (set_features, self, features)
        set_features(self, features)
        if has_version_1(features) then self.hdr_size = ffi.sizeof("struct virtio_net_hdr_mrg_rxbuf") end
    end)
end)

cure("renegotiate", function ()
    -- Upstream chooses its functions (merged buffers or not, indirect descriptors or not) at the first negotiation, and
    -- keeps them when firmware's driver is followed by the system's, which negotiates something else.
    wrap(VirtioNetDevice, "set_features", function (set_features, self, features)
        self.receive_packets_ops, self.transmit_packet_ops = nil, nil
        for _, ring in pairs(self.virtq) do ring.get_desc = nil end
        set_features(self, features)
    end)
end)

---------------------------------------------------------------- frames

-- Are there, from the next free one on, guest's buffers for `wanted` bytes, in at most `most` chains? The answer is a
-- boolean, and whether waiting for more buffers can help. (Snabb takes and gives back buffers in step, so that a ring's
-- `used` is also the next one available.)
local function room (device, wanted, most)
    local ring = device.virtq[device.ring_id]
    local mask = ring.vring_num - 1
    local available = band(ring.virtq.avail.idx - ring.used, 65535)
    local found = 0
    for i = 0, math.min(available, most) - 1 do
        local descriptors, id = ring:get_desc(ring.virtq.avail.ring[band(ring.used + i, mask)])
        for _ = 1, ring.vring_num do
            local descriptor = descriptors[id]
            found = found + descriptor.len
            if found >= wanted then return true end
            if band(descriptor.flags, C.VIRTIO_DESC_F_NEXT) == 0 then break end
            id = descriptor.next
        end
    end
    return false, available < math.min(most, ring.vring_num)
end

cure("oversized", function ()
    -- Without merged buffers upstream asserts that a frame fits into the guest's first buffer: one frame that is larger
    -- (a neighbour with a larger MTU is enough) ends the switch. And where a buffer is a chain of pieces it writes the
    -- whole frame into each. Fill piece by piece, drop what the chain can't take, and count it.
    wrap(VirtioNetDevice, "tx_packet_start", function (tx_packet_start, self, addr, len)
        local input = self.owner.input.rx
        while not link.empty(input) do
            local wanted = link.front(input).length + self.hdr_size
            if wanted <= len or room(self, wanted, 1) then break end
            packet.free(link.receive(input))
            count(self.owner, "rxdrop")
        end
        local p = tx_packet_start(self, addr, len)
        self.tx.data_sent = 0
        if p and self.hdr_size == ffi.sizeof("struct virtio_net_hdr_mrg_rxbuf") then
            ffi.cast("struct virtio_net_hdr_mrg_rxbuf *", self:map_from_guest(addr)).num_buffers = 1
        end
        return p
    end)
    function VirtioNetDevice:tx_buffer_add (p, addr, len)
        local size = math.min(p.length - self.tx.data_sent, len)
        ffi.copy(ffi.cast("char *", self:map_from_guest(addr, size)), p.data + self.tx.data_sent, size)
        self.tx.data_sent = self.tx.data_sent + size
        return size
    end
end)

cure("whole-frames", function ()
    -- With merged buffers upstream hands over the part of a large frame for which there are buffers, and later writes
    -- the number of buffers into the first of them, which by then is the guest's again. Wait until there are enough.
    wrap(VirtioNetDevice, "tx_packet_start_mrg_rxbuf", function (tx_packet_start, self, addr, len)
        if not self.tx.p then
            local input = self.owner.input.rx
            while not link.empty(input) do
                local wanted = link.front(input).length + self.hdr_size
                if wanted <= len then break end
                local fits, may_fit = room(self, wanted, math.huge)
                if fits then break end
                if may_fit then return nil end
                packet.free(link.receive(input))
                count(self.owner, "rxdrop")
            end
        end
        return tx_packet_start(self, addr, len)
    end)
end)

cure("guest-bounds", function ()
    -- Upstream trusts the guest: it looks whether a buffer's beginning lies in the guest's memory, not its end, and so
    -- reads and writes what else is mapped; a frame of more than 10 KiB ends it by an assertion, a checksum's offset
    -- may point outside the frame. A driver that gives an address outside its memory is broken beyond helping, and the
    -- switch ends, which is no worse than what it deserves. A long frame (any guest's root can send one) is dropped.
    function VirtioNetDevice:map_from_guest (addr, len)
        len = len or ffi.sizeof("struct vring_desc")
        local regions = self.mem_table
        local region = regions[0]
        if len <= region.size and addr - region.guest <= region.size - len then
            return addr + region.snabb - region.guest
        end
        for i = 1, #regions do
            region = regions[i]
            if len <= region.size and addr - region.guest <= region.size - len then
                -- The region used last is looked at first.
                regions[0], regions[i] = region, regions[0]
                return addr + region.snabb - region.guest
            end
        end
        error("vhost-user: the guest's driver names an address outside its memory")
    end
    wrap(VirtioNetDevice, "rx_packet_start", function (rx_packet_start, self, addr, len)
        self.rx_pieces, self.rx_overlong = 0, false
        return rx_packet_start(self, addr, len)
    end)
    function VirtioNetDevice:rx_buffer_add (p, addr, len)
        self.rx_pieces = self.rx_pieces + 1
        if self.rx_pieces > 65536 then error("vhost-user: the guest's driver makes a buffer without an end") end
        if p.length + len <= packet.max_payload then
            packet.append(p, ffi.cast("char *", self:map_from_guest(addr, len)), len)
        else
            self.rx_overlong = true
        end
        return len
    end
    function VirtioNetDevice:rx_packet_end (id, size, p)
        local output = self.owner.output.tx
        if output and not self.rx_overlong then
            link.transmit(output, p)
        else
            packet.free(p)
            count(self.owner, "txdrop")
        end
        self.virtq[self.ring_id]:put_buffer(id, size)
    end
end)

cure("no-backlog", function ()
    -- Upstream leaves what arrives while no driver runs in the link, and a guest that starts hours later is given a
    -- thousand frames of long ago.
    function VhostUser:push ()
        if self.vhost_ready then
            self.dev:poll_vring_transmit()
        else
            local input = self.input.rx
            while input and not link.empty(input) do
                packet.free(link.receive(input))
                count(self, "rxdown")
            end
        end
    end
end)

---------------------------------------------------------------- events

-- Tells what has changed since the last call.
function VhostUser:report_changes ()
    local connected, up = self.connected or false, self.connected and self.vhost_ready or false
    if self.was_up and not up then M.report("down") end
    if self.was_connected and not connected then M.report("disconnected") end
    if connected and not self.was_connected then M.report("connected") end
    if up and not self.was_up then M.report("up") end
    self.was_connected, self.was_up = connected, up
end

for _, name in ipairs({ "connect", "stop", "process_qemu_requests" }) do
    wrap(VhostUser, name, function (original, self)
        original(self)
        self:report_changes()
    end)
end

return M
