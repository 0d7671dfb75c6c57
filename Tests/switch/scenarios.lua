-- snabb snsh scenarios.lua CURE FOLDER: plays the part around a switch where the cure matters. Prints one line: what
-- was seen; exits 0 when all went as it should, 10 when the failure was there. Without arguments: lists the cures.
--
-- FOLDER has: vm.sock (where to listen), pid (the switch's process), errors (its standard error). The switch's network
-- device is the tap `sw0`, or for raw-* `sw0` whose peer is `sw1`, in the namespace that this runs in as well.

package.path = (debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "?.lua"

local bit = require("bit")
local ffi = require("ffi")
local S = require("syscall")
local front_end = require("front_end")

local C = ffi.C
local F = front_end.features
local folder = main.parameters[2] or "."

local scenarios, names = {}, {}
local function scenario (name, play)
    scenarios[name] = play
    table.insert(names, name)
end

local function read (path)
    local file = io.open(path)
    local text = file and file:read("*a") or ""
    if file then file:close() end
    return text
end
local function pid () return tonumber(read(folder .. "/pid")) end
-- A process that ended and was not waited for yet counts as ended.
local function alive () return read(("/proc/%d/stat"):format(pid())):match("^%d+ %b() [^ZX]") ~= nil end
local function last_words () return read(folder .. "/errors"):match("([^\n]+)") or "without a word" end

-- The check that most scenarios end with: the switch lives, and a fresh frame goes through it both ways.
local function frame (text, size) -- to the guest's address, of a type that nobody knows
    local bytes = "\x52\x54\x00\x00\x00\x01" .. "\x02\x00\x00\x00\x00\x02" .. "\x88\xb5" .. text
    return bytes .. ("."):rep((size or 60) - #bytes)
end

-- A packet socket on an interface, to play the network (or, through the interface's queue, the host itself).
local function network (interface, queued)
    local t, c = S.types.t, S.c
    local protocol = require("syscall.helpers").htons(c.ETH_P.ALL)
    local socket = assert(S.socket(c.AF.PACKET, bit.bor(c.SOCK.RAW, c.SOCK.NONBLOCK), protocol))
    local index = assert(S.util.if_nametoindex(interface))
    -- Straight to the device: its queue is made up to a second after its carrier is there, and drops till then.
    local SOL_PACKET, QDISC_BYPASS = 263, 20
    assert(S.setsockopt(socket, SOL_PACKET, QDISC_BYPASS, ffi.new("int[1]", queued and 0 or 1), 4))
    assert(S.bind(socket, t.sockaddr_ll{ sll_family = c.AF.PACKET, sll_ifindex = index, sll_protocol = protocol }))
    local buffer = ffi.new("uint8_t[65536]")
    return {
        send = function (bytes) return S.write(socket, bytes, #bytes) end,
        -- The next frame of the test's own type.
        receive = function (milliseconds)
            local found
            front_end.until_ready(function ()
                local size = S.read(socket, buffer, 65536)
                if size and size > 14 and buffer[12] == 0x88 and buffer[13] == 0xb5 then
                    found = ffi.string(buffer, size)
                end
                return found
            end, milliseconds or 1000)
            return found
        end,
    }
end

-- The guest's next frame of the test's own type: the kernel says things of its own on any interface.
local function guest_receives (vm, milliseconds)
    for _ = 1, 50 do
        local bytes, header, missing = vm:receive_frame(milliseconds)
        if not bytes then return nil end
        if bytes:sub(13, 14) == "\x88\xb5" then return bytes, header, missing end
    end
end

local function flows (vm, net)
    if not alive() then return false, "the switch ended: " .. last_words() end
    net = net or network("sw0")
    vm:offer_buffers(16, 2048)
    local sent = frame("to the guest")
    net.send(sent)
    local got = guest_receives(vm)
    if not alive() then return false, "the switch ended: " .. last_words() end
    if got ~= sent then return false, "a frame to the guest " .. (got and "arrives damaged" or "does not arrive") end
    vm:send_frame(frame("from the guest"))
    if vm:used(1, 1) == 0 then return false, "a frame of the guest is not taken" end
    return true, "frames flow"
end

local function connected ()
    local vm = front_end.new(folder .. "/vm.sock")
    vm:accept()
    return vm
end

local function started (features)
    local vm = connected()
    local _, reason = vm:start(features or F.mrg + F.version_1)
    return vm, reason
end

local function descriptors ()
    local count = 0
    for _ in S.util.ls(("/proc/%d/fd"):format(pid())) do count = count + 1 end
    return count
end
local function mappings ()
    local _, count = read(("/proc/%d/maps"):format(pid())):gsub("sw%-guest", "")
    return count
end

---------------------------------------------------------------- the protocol

scenario("requests", function ()
    local vm = connected()
    vm:get_features()
    local before = descriptors()
    for _, request in ipairs({ C.VHOST_USER_SET_VRING_ERR, C.VHOST_USER_SET_LOG_BASE, C.VHOST_USER_SET_LOG_FD }) do
        vm:send(request, 8, nil, vm.memory_fd)
        if not vm:get_features() then return false, "a request ends the switch: " .. last_words() end
    end
    if descriptors() > before then return false, "descriptors stay open" end
    return true, "the requests are taken"
end)

scenario("queue-number", function ()
    local vm = connected()
    local number, reason = vm:ask(C.VHOST_USER_GET_QUEUE_NUM, 0)
    return number == 1, number and ("the answer is %d"):format(number) or reason
end)

scenario("ring-state", function ()
    local vm = connected()
    vm:enable(0, true)
    if not vm:get_features() then return false, "enabling ends the switch: " .. last_words() end
    vm:set_features(F.mrg + F.version_1 + F.protocol)
    vm:set_memory()
    vm:set_ring(0)
    vm:kick(0)
    if not vm:get_features() then return false, "the first ring's kick ends the switch: " .. last_words() end
    vm:set_ring(1)
    vm:kick(1)
    vm:offer_buffers(4, 2048)
    network("sw0").send(frame("too early"))
    vm:get_features()
    if guest_receives(vm, 200) then return false, "a ring runs that is not enabled" end
    vm:enable(1, true)
    vm:get_features()
    return flows(vm)
end)

scenario("descriptors", function ()
    local vm = started()
    vm:get_features()
    local before = descriptors()
    for _ = 1, 20 do
        vm:call(0)
        vm:kick(1)
    end
    vm:get_features()
    local after = descriptors()
    for _ = 1, 20 do
        vm:close()
        vm:accept()
        vm:start(F.mrg + F.version_1)
    end
    local last = descriptors()
    if after > before or last > before then
        return false, ("%d descriptors are %d after 40 others and %d after 20 front ends"):format(before, after, last)
    end
    return true, ("%d descriptors, as before"):format(last)
end)

scenario("unmap", function ()
    local vm = started()
    for _ = 1, 10 do
        vm:close()
        vm:accept()
        vm:start(F.mrg + F.version_1)
    end
    return mappings() == 1, ("of 11 guests' memories, %d are mapped"):format(mappings())
end)

scenario("remap", function ()
    local vm = started()
    local ok, reason = flows(vm)
    if not ok then return false, reason end
    vm:set_memory(2)
    if not vm:get_features() then return false, "a new memory table ends the switch: " .. last_words() end
    vm:offer_buffers(4, 2048)
    vm:send_frame(frame("from the guest again"))
    if vm:used(1, 2) < 2 then return false, "nothing flows after a new memory table: " .. last_words() end
    return alive(), "frames flow after a new memory table"
end)

scenario("messages", function ()
    local vm = connected()
    local start = C.get_monotonic_time()
    for _ = 1, 6 do
        vm:get_features()
        C.usleep(5000) -- what QEMU does in between; else one look finds several
    end
    local seconds = C.get_monotonic_time() - start
    return seconds < 1.5, ("6 questions are answered in %.3f s"):format(seconds)
end)

scenario("connect", function ()
    -- Somebody else has taken all the places, before the switch came: it must still hear that it is to stop.
    local listener = assert(S.socket("unix", "stream, cloexec"))
    local address = S.types.t.sockaddr_un(folder .. "/vm.sock")
    assert(S.bind(listener, address) and S.listen(listener, 0))
    local others = {}
    for i = 1, 2 do
        others[i] = assert(S.socket("unix", "stream, nonblock, cloexec"))
        S.connect(others[i], address)
    end
    C.usleep(500000)
    S.kill(pid(), "term")
    local gone = front_end.until_ready(function () return not alive() end, 1500)
    if not gone then S.kill(pid(), "kill") end
    return gone, gone and "it stops while QEMU is busy" or "it does not hear SIGTERM while QEMU is busy"
end)

scenario("sigpipe", function ()
    local vm = connected()
    vm:send(C.VHOST_USER_GET_FEATURES, 0)
    vm:close()
    if not front_end.readable(vm.listener, 3000) then
        return false, alive() and "the switch does not come back" or "the switch is killed: " .. last_words()
    end
    return true, "the switch connects again"
end)

scenario("no-cache", function ()
    local vm = started()
    vm:get_features()
    local file = "/tmp/vhost_features_" .. (folder .. "/vm.sock"):gsub("/", "__")
    local there = S.stat(file) ~= nil
    S.unlink(file)
    return not there, there and "features are kept in " .. file or "no file is left"
end)

---------------------------------------------------------------- features

scenario("checksum", function ()
    local vm = connected()
    local offered = assert(vm:get_features())
    vm:start(offered - F.protocol)
    vm:offer_buffers(16, 2048)
    local net = network("sw0")
    net.send(frame("of no known type"))
    local got, header = guest_receives(vm)
    if not got then return false, "nothing arrives" end
    -- What Linux does with the flag: it writes a checksum at checksum_start + checksum_offset.
    local start, offset = header[6] + 256 * header[7], header[8] + 256 * header[9]
    return header[0] == 0, header[0] == 0 and "no checksum is asked for"
        or ("the guest is to write a checksum at %d, inside the destination address"):format(start + offset)
end)

scenario("version-1", function ()
    local vm = connected()
    local offered = assert(vm:get_features())
    if offered < F.version_1 then return false, "VIRTIO_F_VERSION_1 is not offered" end
    vm:start(F.version_1) -- without merged buffers: the header still has 12 bytes
    return flows(vm)
end)

scenario("renegotiate", function ()
    local vm = started(F.mrg)
    local ok, reason = flows(vm)
    if not ok then return false, reason end
    vm:stop()
    vm:start(0) -- another driver: no merged buffers, a header of 10 bytes
    return flows(vm)
end)

---------------------------------------------------------------- frames

scenario("oversized", function ()
    local vm = started(F.version_1)
    vm:offer_buffers(1, 2048)
    local net = network("sw0")
    net.send(frame("large", 4000))
    C.usleep(50000)
    if not alive() then return false, "a large frame ends the switch: " .. last_words() end
    local ok, reason = flows(vm, net)
    return ok, ok and "a large frame is dropped, the next one arrives" or reason
end)

scenario("whole-frames", function ()
    local vm = started()
    local net = network("sw0")
    vm:offer_buffers(2, 1536)
    local sent = frame("much larger than two buffers", 9000)
    net.send(sent)
    if vm:used(0, 1, 200) > 0 then
        local _, header = vm:receive_frame()
        return false, ("the guest is given %d buffers of 6 as the whole of a frame"):format(header[10])
    end
    vm:offer_buffers(16, 1536)
    local got = guest_receives(vm)
    return got == sent, got == sent and "the frame arrives when there is room for all of it" or "the frame is damaged"
end)

scenario("guest-bounds", function ()
    local vm = started()
    local pieces = { { 2 * 1024 * 1024, vm.header } }
    for i = 1, 3 do pieces[i + 1] = { 2 * 1024 * 1024, 4000 } end
    vm:offer(1, pieces)
    if vm:used(1, 1, 500) == 0 or not alive() then
        return false, "a guest's frame of 12000 bytes ends the switch: " .. last_words()
    end
    local ok, reason = flows(vm)
    return ok, ok and "a frame of 12000 bytes is dropped, the next ones pass" or reason
end)

scenario("no-backlog", function ()
    local vm = connected()
    vm:get_features()
    local net = network("sw0")
    for i = 1, 50 do net.send(frame("of long ago " .. i)) end
    C.usleep(100000)
    vm:start(F.mrg + F.version_1)
    vm:offer_buffers(100, 2048)
    net.send(frame("of now"))
    local got = guest_receives(vm)
    local words = got and got:match("of [%w ]+") or "missing"
    return got == frame("of now"), ("the guest's first frame is one %s"):format(words)
end)

---------------------------------------------------------------- devices

scenario("tap-refusal", function ()
    local vm = started()
    os.execute("ip link set sw0 down")
    vm:send_frame(frame("while the tap is down"))
    vm:used(1, 1)
    C.usleep(50000)
    if not alive() then return false, "a tap that is down ends the switch: " .. last_words() end
    os.execute("ip link set sw0 up")
    local ok, reason = flows(vm)
    return ok, ok and "frames flow when the tap is up again" or reason
end)

scenario("raw-refusal", function ()
    local vm = started()
    vm:send_frame(frame("larger than the MTU", 4000))
    vm:used(1, 1)
    C.usleep(50000)
    if not alive() then return false, "a frame larger than the MTU ends the switch: " .. last_words() end
    local ok, reason = flows(vm, network("sw1"))
    return ok, ok and "a frame larger than the MTU is dropped" or reason
end)

scenario("raw-tags", function ()
    local vm = started()
    vm:offer_buffers(16, 2048)
    local untagged = frame("tagged")
    local sent = untagged:sub(1, 12) .. "\x81\x00\x20\x64" .. untagged:sub(13)
    network("sw1").send(sent)
    local got
    for _ = 1, 50 do
        got = vm:receive_frame()
        if not got or got:find("tagged", 1, true) then break end
    end
    if not got then return false, "the tagged frame does not arrive" end
    return got == sent, got == sent and "a VLAN tag arrives with its frame" or "a VLAN tag is lost on the way"
end)

scenario("raw-promiscuous", function ()
    started()
    -- Not in the interface's flags, which only tell what the administrator wants.
    local pipe = io.popen("ip -details link show sw0")
    local count = pipe:read("*a"):match("promiscuity (%d+)")
    pipe:close()
    return count ~= "0", "the interface's promiscuity is " .. tostring(count)
end)

scenario("raw-outgoing", function ()
    local vm = started()
    vm:offer_buffers(16, 2048)
    network("sw0", "queued").send(frame("from the host itself"))
    local got = guest_receives(vm, 300)
    return not got, got and "the guest is given what the host sends" or "the host's own frames are not the guest's"
end)

-- UDP with segmentation offload: the kernel hands the peer one frame of 8 KB, without a checksum.
scenario("raw-offloads", function ()
    local vm = started()
    vm:offer_buffers(64, 2048)
    os.execute("ip address add 10.99.0.1/24 dev sw1; "
        .. "ip neighbour add 10.99.0.2 lladdr 52:54:00:00:00:01 dev sw1")
    local socket = assert(S.socket("inet", "dgram"))
    local UDP, SEGMENT = 17, 103
    assert(S.setsockopt(socket, UDP, SEGMENT, ffi.new("int[1]", 1000), 4))
    assert(S.connect(socket, S.types.t.sockaddr_in(5000, "10.99.0.2")))
    assert(S.write(socket, ("x"):rep(8000), 8000))
    local checksum = require("lib.checksum")
    local good = 0
    for _ = 1, 40 do
        local got = vm:receive_frame(300)
        if not got then break end
        if got:sub(13, 14) == "\x08\x00" and got:byte(24) == UDP then
            local bytes = ffi.new("uint8_t[?]", #got)
            ffi.copy(bytes, got, #got)
            if not checksum.verify_packet(bytes + 14, #got - 14) then return false, "a checksum is missing" end
            if #got ~= 14 + 28 + 1000 then return false, ("a frame has %d bytes"):format(#got) end
            good = good + 1
        end
    end
    return good == 8, ("%d of 8 datagrams arrive with their checksums"):format(good)
end)

---------------------------------------------------------------- virtio-net by PCI address

-- In a machine whose NIC is QEMU's, with one outside that sends frames back (`echo`).
for _, name in ipairs({ "header", "alignment", "sent", "receive", "end" }) do
    scenario("virtio-" .. name, function ()
        local vm = front_end.new(folder .. "/vm.sock")
        if not front_end.readable(vm.listener, 5000) then
            return false, "the switch does not start: " .. last_words()
        end
        vm:accept()
        vm:start(F.mrg + F.version_1)
        vm:offer_buffers(100, 2048)
        -- More than a ring of frames.
        local wanted = 300
        for i = 1, wanted do
            local sent = frame("number " .. i)
            vm:send_frame(sent)
            local got = guest_receives(vm, 1500)
            if not alive() then return false, "the switch ended: " .. last_words() end
            if not got then return false, ("frame %d does not come back"):format(i) end
            if got ~= sent then return false, ("frame %d comes back damaged"):format(i) end
            vm:offer_buffers(1, 2048)
        end
        -- However it ends, the device must not go on by itself.
        S.kill(pid(), "kill")
        C.usleep(500000)
        local registers = assert(S.open("/sys/bus/pci/devices/0000:00:05.0/resource0", "rdwr"))
        local STATUS, DRIVER_OK = 18, 4
        local status = ffi.new("uint8_t[1]")
        registers:pread(status, 1, STATUS)
        if bit.band(status[0], DRIVER_OK) ~= 0 then return false, "the device goes on when the switch is killed" end
        return true, ("%d frames come back"):format(wanted)
    end)
end

local function echo ()
    local net = network("sw0")
    while true do
        local bytes = net.receive()
        if bytes then net.send(bytes) end
    end
end

---------------------------------------------------------------- main

local name = main.parameters[1]
if not name then
    print(table.concat(names, "\n"))
    os.exit(0)
end
if name == "echo" then echo() end
local ok, healthy, seen = pcall(assert(scenarios[name], "no such cure"))
print(ok and seen or tostring(healthy))
os.exit(ok and (healthy and 0 or 10) or 1)
