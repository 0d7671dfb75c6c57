-- A Linux interface through a packet socket. Snabb's own app for it (apps.socket.raw) reads what the kernel has made
-- of the frames for its own convenience: VLAN tags taken off and put aside, several TCP segments merged into one of up
-- to 64 KiB (cut off at 10 KiB by reading), checksums not yet computed where the sender is on the same machine. No
-- guest can make sense of that. This one asks for the details (PACKET_AUXDATA, PACKET_VNET_HDR) and hands on frames as
-- they would be on a wire, so that nothing about the interface or its peer need be changed with ethtool.
--
-- Also: the interface is promiscuous as long as the socket is open (the kernel undoes it, whatever way this process
-- ends), what the host itself sends over the interface is not taken for something received, and a frame that the
-- interface doesn't take (too large for its MTU, interface down) is dropped and counted instead of ending the switch.

local bit = require("bit")
local ffi = require("ffi")
local S = require("syscall")
local counter = require("core.counter")
local checksum = require("lib.checksum")
local engine = require("core.app")
local lib = require("core.lib")
local link = require("core.link")
local packet = require("core.packet")
local RawSocket = require("apps.socket.raw").RawSocket

local C = ffi.C
local band, bor, bnot, rshift = bit.band, bit.bor, bit.bnot, bit.rshift
local htons, htonl = lib.htons, lib.htonl

ffi.cdef[[
long recvmsg (int socket, void *message, int flags);

struct sw_vnet_header {
    uint8_t flags, gso_type;
    uint16_t header_length, gso_size, checksum_start, checksum_offset;
};
struct sw_auxdata { /* with the cmsghdr that comes before it */
    size_t length;
    int level, type;
    uint32_t status, wire_length, captured;
    uint16_t mac, net, vlan_tci, vlan_tpid;
};
struct sw_iovec { void *base; size_t length; };
struct sw_message {
    void *name;
    uint32_t name_length;
    struct sw_iovec *parts;
    size_t part_count;
    void *control;
    size_t control_length;
    int flags;
};
struct sw_membership { int interface; uint16_t type, address_length; uint8_t address[8]; };
]]

-- From linux/if_packet.h and linux/virtio_net.h.
local SOL_PACKET = 263
local ADD_MEMBERSHIP, AUXDATA, VNET_HDR, IGNORE_OUTGOING = 1, 8, 15, 23
local MEMBERSHIP_PROMISCUOUS = 1
local STATUS_VLAN_VALID, STATUS_VLAN_TPID_VALID = 0x10, 0x40
local NEEDS_CHECKSUM = 1
local GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_ECN = 1, 4, 5, 0x80

local uint16_ptr_t, uint32_ptr_t = ffi.typeof("uint16_t *"), ffi.typeof("uint32_t *")
local function get16 (pointer) return htons(ffi.cast(uint16_ptr_t, pointer)[0]) end
local function put16 (pointer, value) ffi.cast(uint16_ptr_t, pointer)[0] = htons(band(value, 0xffff)) end

-- The kernel's largest frame, with room before it for a VLAN tag to be put back.
local TAG = 4
local LARGEST = 256 * 1024

local Raw = setmetatable({}, { __index = RawSocket })

local function option (socket, name, value, size)
    local ok, err = S.setsockopt(socket, SOL_PACKET, name, value, size)
    if not ok then error(("packet socket option %d: %s"):format(name, tostring(err))) end
end

function Raw:new (conf)
    local o = RawSocket.new(self, conf.interface)
    o.interface = conf.interface
    local index = assert(S.util.if_nametoindex(conf.interface))
    local on = ffi.new("int[1]", 1)
    option(o.sock, AUXDATA, on, 4)
    option(o.sock, VNET_HDR, on, 4)
    option(o.sock, IGNORE_OUTGOING, on, 4)
    local membership = ffi.new("struct sw_membership", { interface = index, type = MEMBERSHIP_PROMISCUOUS })
    option(o.sock, ADD_MEMBERSHIP, membership, ffi.sizeof(membership))
    -- What fits into the default of 208 KiB is over in a fraction of a millisecond.
    local _ = S.setsockopt(o.sock, "socket", "rcvbufforce", 8 * 1024 * 1024)
        or S.setsockopt(o.sock, "socket", "rcvbuf", 8 * 1024 * 1024)

    -- Frames are sent through a socket without these options, which would want a header before each. It is bound to no
    -- protocol: it receives nothing.
    local t, c = S.types.t, S.c
    o.sender = assert(S.socket(c.AF.PACKET, bor(c.SOCK.RAW, c.SOCK.NONBLOCK), 0))
    assert(S.bind(o.sender, t.sockaddr_ll{ sll_family = c.AF.PACKET, sll_ifindex = index, sll_protocol = 0 }))

    o.buffer = ffi.new("uint8_t[?]", TAG + LARGEST)
    o.header = ffi.new("struct sw_vnet_header")
    o.auxdata = ffi.new("struct sw_auxdata")
    o.parts = ffi.new("struct sw_iovec[2]", {
        { o.header, ffi.sizeof(o.header) },
        { o.buffer + TAG, LARGEST },
    })
    o.message = ffi.new("struct sw_message", { parts = o.parts, part_count = 2, control = o.auxdata })
    o.pseudo = ffi.new("uint8_t[40]")
    o.shm.rxdrop = { counter }
    o.shm.txdrop = { counter }
    o.zone = "raw_socket"
    return setmetatable(o, { __index = Raw })
end

function Raw:stop ()
    self.sender:close()
    RawSocket.stop(self)
end

function Raw:pull ()
    local output = self.output.tx
    if not output then return end
    local socket, message = self.sock:getfd(), self.message
    for _ = 1, engine.pull_npackets do
        -- One frame may become many: what there is no room for stays in the socket.
        if link.nwritable(output) < 128 then return end
        message.control_length = ffi.sizeof("struct sw_auxdata")
        local size = tonumber(C.recvmsg(socket, message, 0))
        if size < 0 then
            local code = ffi.errno()
            if code == S.c.E.AGAIN then return end
            -- EINVAL: merged in a way that the header has no words for. ENETDOWN: told once when it goes down.
            counter.add(self.shm.rxdrop)
        else
            self:deliver(output, size - ffi.sizeof("struct sw_vnet_header"))
        end
    end
end

-- Sends the frame in the buffer to the link, as one or more frames such as a wire has.
function Raw:deliver (output, length)
    local data, header = self.buffer + TAG, self.header
    local aux = self.auxdata
    local checksum_start = header.checksum_start
    if band(aux.status, STATUS_VLAN_VALID) ~= 0 then
        C.memmove(self.buffer, data, 12)
        data, length, checksum_start = self.buffer, length + TAG, checksum_start + TAG
        put16(data + 12, band(aux.status, STATUS_VLAN_TPID_VALID) ~= 0 and aux.vlan_tpid or 0x8100)
        put16(data + 14, aux.vlan_tci)
    end
    local partial = band(header.flags, NEEDS_CHECKSUM) ~= 0
    if header.gso_type ~= 0 then
        if not (partial and self:deliver_segments(output, data, length, checksum_start)) then
            counter.add(self.shm.rxdrop)
        end
        return
    end
    if length > packet.max_payload then
        counter.add(self.shm.rxdrop)
        return
    end
    if partial then self.finish(data, length, checksum_start, header.checksum_offset) end
    self:transmit(output, packet.from_pointer(data, length))
end

-- Completes a checksum whose field holds the sum of the pseudo header.
function Raw.finish (data, length, start, offset)
    if start + offset + 2 > length then return end
    local sum = checksum.ipsum(data + start, length - start, 0)
    -- In UDP, zero would say that there is none; and the two zeros are equal in ones' complement.
    if sum == 0 then sum = 0xffff end
    put16(data + start + offset, sum)
end

function Raw:transmit (output, p)
    counter.add(self.shm.rxbytes, p.length)
    counter.add(self.shm.rxpackets)
    if band(p.data[0], 1) ~= 0 then
        counter.add(self.shm.rxmcast)
        if p.data[0] == 0xff and p.data[1] == 0xff and p.data[5] == 0xff then counter.add(self.shm.rxbcast) end
    end
    link.transmit(output, p)
end

-- The opposite of what the kernel did: one TCP or UDP frame of up to 64 KiB into many. `l4` is where TCP or UDP begins.
-- False when the frame is not what it is said to be.
function Raw:deliver_segments (output, data, length, l4)
    local kind, size = band(self.header.gso_type, bnot(GSO_ECN)), self.header.gso_size
    local tcp = kind == GSO_TCPV4 or kind == GSO_TCPV6
    if not tcp and kind ~= GSO_UDP then return false end
    local l3 = 14
    local ethertype = get16(data + 12)
    while ethertype == 0x8100 or ethertype == 0x88a8 do
        ethertype = get16(data + l3 + 2)
        l3 = l3 + TAG
    end
    local v4 = ethertype == 0x0800
    if not v4 and ethertype ~= 0x86dd or l4 < l3 + (v4 and 20 or 40) or l4 + 20 > length or size == 0 then
        return false
    end
    local payload = l4 + (tcp and rshift(data[l4 + 12], 4) * 4 or 8)
    if payload > length or payload + size > packet.max_payload then return false end

    -- The pseudo header, but for the length.
    local pseudo, pseudo_size, length_at = self.pseudo, v4 and 12 or 40, v4 and 10 or 34
    ffi.fill(pseudo, 40)
    if v4 then
        ffi.copy(pseudo, data + l3 + 12, 8)
        pseudo[9] = tcp and 6 or 17
    else
        ffi.copy(pseudo, data + l3 + 8, 32)
        pseudo[39] = tcp and 6 or 17
    end
    local checksum_at = tcp and 16 or 6
    local ip_header = v4 and band(data[l3], 15) * 4 or 40
    local id = get16(data + l3 + 4)
    local sequence = htonl(ffi.cast(uint32_ptr_t, data + l4 + 4)[0])

    local at, number = payload, 0
    repeat
        local piece = math.min(size, length - at)
        local last = at + piece == length
        local p = packet.from_pointer(data, payload)
        packet.append(p, data + at, piece)
        local ip, segment, segment_size = p.data + l3, p.data + l4, p.length - l4
        if v4 then
            put16(ip + 2, p.length - l3)
            put16(ip + 4, id + number)
            put16(ip + 10, 0)
            put16(ip + 10, checksum.ipsum(ip, ip_header, 0))
        else
            put16(ip + 4, p.length - l3 - 40)
        end
        if tcp then
            ffi.cast(uint32_ptr_t, segment + 4)[0] = htonl(bit.tobit(sequence + (at - payload)))
            -- FIN and PSH belong to the last segment, CWR to the first.
            if not last then segment[13] = band(segment[13], bnot(0x09)) end
            if number > 0 then segment[13] = band(segment[13], bnot(0x80)) end
        else
            put16(segment + 4, segment_size)
        end
        put16(pseudo + length_at, segment_size)
        put16(segment + checksum_at, bnot(checksum.ipsum(pseudo, pseudo_size, 0)))
        self.finish(p.data, p.length, l4, checksum_at)
        self:transmit(output, p)
        at, number = at + piece, number + 1
    until at >= length
    return true
end

function Raw:try_transmit (p)
    local _, err = S.write(self.sender, p.data, p.length)
    if err then
        -- The interface's queue is full: later.
        if err.AGAIN or err.NOBUFS then return false end
        if err.NXIO or err.NODEV then error(("interface %s is gone"):format(self.interface)) end
        counter.add(self.shm.txdrop)
    end
    return true
end

return { Raw = Raw }
