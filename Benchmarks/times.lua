-- snabb snsh times.lua SOCKET CPU COUNT PROGRAM WORD…: starts the switch on the processor, plays the guest that waits
-- for it with a frame to send, and kills it so many times, each time starting the next one at once, as the launcher
-- does. Prints microseconds: "start" from the start to the first frame that came back, "again" from each kill to the
-- next.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
package.path = here .. "../Tests/switch/?.lua"

local ffi = require("ffi")
local S = require("syscall")
local front_end = require("front_end")
local C = ffi.C

local FRAME = ("\255"):rep(6) .. ("\2"):rep(6) .. "\8\6" .. ("."):rep(46)
local PATIENCE = 20 -- seconds

-- Its signal would interrupt system calls.
jit.vmprofile.stop()

local words = main.parameters
local socket, cpu, count = table.remove(words, 1), tonumber(table.remove(words, 1)), tonumber(table.remove(words, 1))
local environment = {}
for name, value in pairs(S.environ()) do table.insert(environment, name .. "=" .. value) end

-- The end of its standard input tells the switch that this process has ended.
local _, _, life, own_end = S.pipe()

local function start ()
    local pid = assert(S.fork())
    if pid ~= 0 then return pid end
    S.sched_setaffinity(0, S.types.t.cpu_set({ cpu }))
    local log = assert(S.open(socket .. ".log", "creat, wronly, append", "0600"))
    S.dup2(life, 0)
    S.dup2(log, 1)
    S.dup2(log, 2)
    for fd = 3, 255 do C.close(fd) end
    S.execve(words[1], words, environment)
    S.exit(127)
end

local guest = front_end.new(socket)
local rings

local function ask (request)
    return assert(guest:ask(request, 0))
end

-- A ring that has been in use goes on where the last switch stopped, as QEMU has it.
local function resume_ring (index)
    local ring = rings[index]
    local function state (number)
        return function (m) m.state.index, m.state.num = index, number end
    end
    local function place (pointer) return 0x7f0000000000ULL + (ffi.cast("uint8_t *", pointer) - guest.memory) end
    guest:send(C.VHOST_USER_SET_VRING_NUM, 8, state(256))
    guest:send(C.VHOST_USER_SET_VRING_BASE, 8, state(ring.used.idx))
    guest:send(C.VHOST_USER_SET_VRING_ADDR, 40, function (m)
        m.addr.index = index
        m.addr.desc_user_addr, m.addr.avail_user_addr, m.addr.used_user_addr =
            place(ring.desc), place(ring.avail), place(ring.used)
    end)
end

-- What QEMU says on a new connection, in its order, waiting for answers where it does.
local function begin ()
    guest:close()
    guest:accept(PATIENCE * 1000)
    ask(C.VHOST_USER_GET_FEATURES)
    ask(C.VHOST_USER_GET_PROTOCOL_FEATURES)
    guest:send(C.VHOST_USER_SET_PROTOCOL_FEATURES, 8, function (m) m.u64 = 0 end)
    guest:send(C.VHOST_USER_SET_OWNER, 0)
    ask(C.VHOST_USER_GET_FEATURES)
    for index = 0, 1 do
        guest:call(index)
        guest:enable(index, true)
    end
    local features = front_end.features
    guest:set_features(features.mrg + features.version_1 + features.protocol)
    guest:set_memory()
    guest.rings = rings or guest.rings
    for index = 0, 1 do
        if rings then resume_ring(index) else guest:set_ring(index) end
        guest:kick(index)
        guest:call(index)
    end
    if not rings then
        rings = guest.rings
        guest:offer_buffers(128, 2048)
    end
end

-- Waits for one more frame, without sleeping.
local function next_frame ()
    local used, seen = rings[0].used, rings[0].seen
    local limit = C.get_monotonic_time() + PATIENCE
    while used.idx == seen % 65536 do
        C.full_memory_barrier()
        assert(C.get_monotonic_time() < limit, "the frame does not come back")
    end
    local now = C.get_monotonic_time()
    local frame = guest:receive_frame(0)
    assert(frame == FRAME, "another frame came back than was sent")
    guest:offer_buffers(1, 2048)
    return now
end

local function tell (what, since, now) print(("%s %d"):format(what, (now - since) * 1e6)) end

local since = C.get_monotonic_time()
local switch = start()
local ok, failure = pcall(function ()
    begin()
    guest:send_frame(FRAME)
    tell("start", since, next_frame())
    for _ = 1, count do
        -- Frames flow for a moment.
        for _ = 1, 100 do
            guest:send_frame(FRAME)
            next_frame()
        end
        since = C.get_monotonic_time()
        S.kill(switch, "kill")
        guest:send_frame(FRAME)
        S.waitpid(switch, 0)
        switch = start()
        begin()
        tell("again", since, next_frame())
    end
end)
S.kill(switch, "kill")
S.waitpid(switch, 0)
if not ok then
    io.stderr:write(tostring(failure) .. "\n")
    os.exit(1)
end
