-- A vhost-user front end without a machine: what QEMU and a guest's driver do between them, one step at a time and,
-- where wanted, wrongly. It listens where QEMU would; the switch connects.

local bit = require("bit")
local ffi = require("ffi")
local S = require("syscall")
require("apps.vhost.vhost_user") -- for the protocol's structures

local C = ffi.C
local band = bit.band

ffi.cdef[[
long sendmsg (int socket, const void *message, int flags);
int eventfd (unsigned initial, int flags);
struct fe_iovec { void *base; size_t length; };
struct fe_control { size_t length; int level, type; int fds[8]; };
struct fe_message {
    void *name;
    uint32_t name_length;
    struct fe_iovec *parts;
    size_t part_count;
    void *control;
    size_t control_length;
    int flags;
};
]]

local HEADER = 12               -- of a vhost-user message
local MEMORY = 8 * 1024 * 1024  -- the guest's
local QEMU = 0x7f0000000000ULL  -- where QEMU would have it
local RING = 64 * 1024          -- the room for one ring
local SIZE = 256                -- its number of descriptors
local BUFFERS = 1024 * 1024     -- where frames' memory begins

-- Features that a driver may choose from.
local F = { mrg = 2^15, protocol = 2^30, version_1 = 2^32 }

local FrontEnd = {}
FrontEnd.__index = FrontEnd

local function listen (path)
    S.unlink(path)
    local socket = assert(S.socket("unix", "stream, cloexec"))
    assert(S.bind(socket, S.types.t.sockaddr_un(path)))
    assert(S.listen(socket, 1))
    return socket
end

-- Waits until a descriptor can be read, for so many milliseconds.
local function readable (fd, milliseconds)
    return (S.poll(S.types.t.pollfds({ { fd = fd, events = "in" } }), milliseconds) or 0) > 0
end

local function new (path)
    local self = setmetatable({ listener = listen(path), path = path }, FrontEnd)
    self.memory_fd = assert(S.memfd_create("sw-guest", 0))
    assert(S.ftruncate(self.memory_fd, MEMORY))
    self.memory = ffi.cast("uint8_t *", assert(S.mmap(nil, MEMORY, "read, write", "shared", self.memory_fd, 0)))
    self.message = ffi.new("struct vhost_user_msg")
    return self
end

function FrontEnd:accept (milliseconds)
    assert(readable(self.listener, milliseconds or 5000), "the switch does not connect")
    self.socket = assert(S.accept(self.listener))
    self.next_buffer = BUFFERS
    self.rings = {}
end

function FrontEnd:close ()
    if self.socket then self.socket:close() end
    self.socket = nil
end

-- Sends a request; `fill` writes its payload of `size` bytes into the message.
function FrontEnd:send (request, size, fill, ...)
    local message = self.message
    ffi.fill(message, ffi.sizeof(message))
    message.request, message.flags, message.size = request, 1, size
    if fill then fill(message) end
    local part = ffi.new("struct fe_iovec", message, HEADER + size)
    local envelope = ffi.new("struct fe_message", { parts = part, part_count = 1 })
    local fds = { ... }
    local control
    if #fds > 0 then
        control = ffi.new("struct fe_control", 16 + 4 * #fds, 1, 1)
        for i, fd in ipairs(fds) do control.fds[i - 1] = type(fd) == "number" and fd or fd:getfd() end
        envelope.control, envelope.control_length = control, 16 + 4 * #fds
    end
    return tonumber(C.sendmsg(self.socket:getfd(), envelope, 0x4000)) == HEADER + size -- MSG_NOSIGNAL
end

-- The payload of the answer to a request as a number, or nil and why there is none.
function FrontEnd:ask (request, size, fill)
    if not self:send(request, size, fill) then return nil, "the switch has gone" end
    return self:answer()
end

function FrontEnd:answer (milliseconds)
    if not readable(self.socket, milliseconds or 3000) then return nil, "no answer" end
    local message = ffi.new("struct vhost_user_msg")
    local got = S.read(self.socket, message, HEADER + 8)
    if not got or tonumber(got) == 0 then return nil, "the switch has gone" end
    return tonumber(message.u64)
end

function FrontEnd:get_features () return self:ask(C.VHOST_USER_GET_FEATURES, 0) end

function FrontEnd:set_features (features)
    self.header = (band(features, F.mrg) ~= 0 or features >= F.version_1) and 12 or 10
    return self:send(C.VHOST_USER_SET_FEATURES, 8, function (m) m.u64 = features end)
end

-- Tells where the memory is, in so many regions of equal size, beginning at guest's address 0.
function FrontEnd:set_memory (count)
    count = count or 1
    local size = MEMORY / count
    local fds = {}
    for i = 1, count do fds[i] = self.memory_fd end
    return self:send(C.VHOST_USER_SET_MEM_TABLE, 8 + 32 * count, function (m)
        m.memory.nregions = count
        for i = 0, count - 1 do
            local region = m.memory.regions[i]
            region.guest_phys_addr, region.memory_size = i * size, size
            region.userspace_addr, region.mmap_offset = QEMU + i * size, i * size
        end
    end, unpack(fds))
end

local function state (index, number)
    return function (m) m.state.index, m.state.num = index, number end
end

function FrontEnd:enable (index, on) self:send(C.VHOST_USER_SET_VRING_ENABLE, 8, state(index, on and 1 or 0)) end

-- Sets up a ring in its place in memory, and keeps what a driver knows of it.
function FrontEnd:set_ring (index)
    local at = index * RING
    ffi.fill(self.memory + at, RING)
    self:send(C.VHOST_USER_SET_VRING_NUM, 8, state(index, SIZE))
    self:send(C.VHOST_USER_SET_VRING_BASE, 8, state(index, 0))
    self:send(C.VHOST_USER_SET_VRING_ADDR, 40, function (m)
        m.addr.index = index
        m.addr.desc_user_addr = QEMU + at
        m.addr.avail_user_addr = QEMU + at + 16384
        m.addr.used_user_addr = QEMU + at + 32768
    end)
    self.rings[index] = {
        desc = ffi.cast("struct vring_desc *", self.memory + at),
        avail = ffi.cast("struct vring_avail *", self.memory + at + 16384),
        used = ffi.cast("struct vring_used *", self.memory + at + 32768),
        next = 0, -- the next free descriptor
        seen = 0, -- how much of `used` was looked at
        buffers = {},
    }
end

-- The descriptors travel; ours are closed at once.
local function with_eventfd (self, request, index)
    local fd = C.eventfd(0, 0)
    self:send(request, 8, function (m) m.u64 = index end, fd)
    C.close(fd)
end
function FrontEnd:kick (index) with_eventfd(self, C.VHOST_USER_SET_VRING_KICK, index) end
function FrontEnd:call (index) with_eventfd(self, C.VHOST_USER_SET_VRING_CALL, index) end

-- Everything a front end says to get going, in QEMU's order.
function FrontEnd:start (features)
    self:send(C.VHOST_USER_SET_OWNER, 0)
    self:call(0)
    self:call(1)
    self:enable(0, true)
    self:enable(1, true)
    self:set_features(features + F.protocol)
    self:set_memory()
    for index = 0, 1 do
        self:set_ring(index)
        self:kick(index)
        self:call(index)
    end
    return self:get_features() -- all of the above has been read by then
end

-- What the guest's reset makes of it.
function FrontEnd:stop ()
    for index = 0, 1 do self:ask(C.VHOST_USER_GET_VRING_BASE, 8, state(index, 0)) end
end

-- Gives a chain of pieces to the switch, each { address, length }.
function FrontEnd:offer (index, pieces)
    local ring = self.rings[index]
    local head = ring.next
    for i, piece in ipairs(pieces) do
        local desc = ring.desc[(head + i - 1) % SIZE]
        desc.addr, desc.len = piece[1], piece[2]
        desc.flags = (i < #pieces and C.VIRTIO_DESC_F_NEXT or 0) + (index == 0 and C.VIRTIO_DESC_F_WRITE or 0)
        desc.next = (head + i) % SIZE
    end
    ring.next = (head + #pieces) % SIZE
    ring.buffers[head] = pieces[1]
    ring.avail.ring[ring.avail.idx % SIZE] = head
    C.full_memory_barrier()
    ring.avail.idx = ring.avail.idx + 1
end

local function room (self, size)
    local at = self.next_buffer
    self.next_buffer = at + math.ceil(size / 64) * 64
    if self.next_buffer > MEMORY then at, self.next_buffer = BUFFERS, BUFFERS + math.ceil(size / 64) * 64 end
    return at
end

-- Offers `count` buffers for frames to the guest.
function FrontEnd:offer_buffers (count, size)
    for _ = 1, count do
        local at = room(self, size)
        ffi.fill(self.memory + at, size)
        self:offer(0, { { at, size } })
    end
end

-- Sends a frame as the guest would.
function FrontEnd:send_frame (frame)
    local size = self.header + #frame
    local at = room(self, size)
    ffi.fill(self.memory + at, self.header)
    ffi.copy(self.memory + at + self.header, frame, #frame)
    self:offer(1, { { at, size } })
end

local function until_ready (condition, milliseconds)
    for _ = 1, milliseconds do
        if condition() then return true end
        C.usleep(1000)
    end
    return condition()
end

-- The number of buffers given back in a ring, after it is at least `wanted` or the time is over.
function FrontEnd:used (index, wanted, milliseconds)
    local used = self.rings[index].used
    until_ready(function () return used.idx >= wanted end, milliseconds or 3000)
    return used.idx
end

-- The next frame that the guest received (its merged buffers joined), and its header; nil when there is none.
function FrontEnd:receive_frame (milliseconds)
    local ring = self.rings[0]
    if not until_ready(function () return ring.used.idx ~= ring.seen % 65536 end, milliseconds or 3000) then return end
    local parts, header, wanted = {}, nil, 1
    repeat
        local element = ring.used.ring[ring.seen % SIZE]
        local at = ring.buffers[element.id][1]
        local skip = 0
        if not header then
            header, skip = self.memory + at, self.header
            if skip == 12 then wanted = header[10] + 256 * header[11] end
        end
        table.insert(parts, ffi.string(self.memory + at + skip, element.len - skip))
        ring.seen, wanted = ring.seen + 1, wanted - 1
    until wanted <= 0 or ring.used.idx == ring.seen % 65536
    return table.concat(parts), header, wanted
end

return { new = new, features = F, readable = readable, until_ready = until_ready }
