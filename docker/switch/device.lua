-- The network devices that a port can have, each driven by one of Snabb's apps.

local ffi = require("ffi")
local S = require("syscall")
local app = require("core.app")
local config = require("core.config")
local lib = require("core.lib")
local memory = require("core.memory")
local pci = require("lib.hardware.pci")

local M = {}

-- Each adds its app or apps to the configuration and returns the links to use, and whether the VLAN is seen to.
local add = {}

-- The Ethernet header and one VLAN tag come on top of what the largest IP packet takes.
local function frame_size (s) return s.mtu + 14 + 4 end

function add.intel_mp (c, name, s)
    -- Not shared, the whole port in promiscuous mode, where macaddr must not be set. Shared (VMDq), the card itself
    -- sorts by address and VLAN.
    config.app(c, name, require("apps.intel_mp.intel_mp").Intel, {
        pciaddr = s.device.pci,
        mtu = frame_size(s),
        vmdq = s.vmdq or false,
        macaddr = s.vmdq and s.mac or nil,
        vlan = s.vmdq and s.vlan or nil,
        wait_for_link = false,
    })
    return { input = name .. ".input", output = name .. ".output", tags = s.vmdq }
end

function add.intel_avf (c, name, s)
    -- A virtual function can't be promiscuous: it is told the guest's address, and its VLAN.
    config.app(c, name, require("apps.intel_avf.intel_avf").Intel_avf, {
        pciaddr = s.device.pci,
        macs = { s.mac },
        vlan = s.vlan,
    })
    return { input = name .. ".input", output = name .. ".output", tags = true }
end

function add.connectx (c, name, s)
    -- One app sets up the card and its queue, another moves frames. Steering by VLAN needs the address as well, and
    -- leaves the tag in place, for the vlan app to remove.
    local connectx = require("apps.mellanox.connectx")
    config.app(c, name .. "_control", connectx.ConnectX, {
        pciaddress = s.device.pci,
        mtu = frame_size(s),
        queues = { { id = "1", mac = s.vmdq and s.mac or nil, vlan = s.vmdq and s.vlan or nil } },
    })
    config.app(c, name, connectx.IO, { pciaddress = s.device.pci, queue = "1" })
    return { input = name .. ".input", output = name .. ".output" }
end

function add.virtio_net (c, name, s)
    require("virtio_net").apply()
    config.app(c, name, require("apps.virtio_net.virtio_net").VirtioNet, { pciaddr = s.device.pci })
    return { input = name .. ".rx", output = name .. ".tx" }
end

function add.raw (c, name, s)
    config.app(c, name, require("raw_socket").Raw, { interface = s.device.interface })
    return { input = name .. ".rx", output = name .. ".tx" }
end

function add.tap (c, name, s)
    config.app(c, name, require("tap").Tap, { interface = s.device.interface, mtu = s.mtu })
    return { input = name .. ".input", output = name .. ".output" }
end

function add.xdp (c, name, s)
    config.app(c, name, require("apps.xdp.xdp").driver, { ifname = s.device.interface })
    return { input = name .. ".input", output = name .. ".output" }
end

function M.add (c, name, s)
    return add[s.device.kind](c, name, s)
end

-- Packets in ordinary memory, for devices that are behind the kernel and need no physical addresses: no hugepages, no
-- file system to mount for them, and no right to do so. (What the kernel can spare of its transparent hugepages helps.)
local function use_ordinary_memory ()
    local size = 4 * 1024 * 1024
    local chunk, used = nil, size
    function memory.dma_alloc (bytes, align)
        align = align or 128
        used = math.ceil(used / align) * align
        if used + bytes > size then
            chunk, used = assert(S.mmap(nil, size, "read, write", "private, anonymous", -1, 0)), 0
            local _ = S.madvise(chunk, size, "hugepage")
        end
        local pointer = ffi.cast("char *", chunk) + used
        used = used + bytes
        return pointer, 0, bytes
    end
end

-- Snabb adds hugepages to the host's when it finds none free, and never takes them away: whoever started the switch is
-- told of each, to do so.
local function report_hugepages (report)
    local reserve_new_page, pool = memory.reserve_new_page, "/proc/sys/vm/nr_hugepages"
    local count = function () return tonumber(lib.firstline(pool)) end
    function memory.reserve_new_page ()
        local before = count()
        reserve_new_page()
        for _ = before + 1, count() do report("hugepage") end
    end
end

-- To be called before the first packet is there.
function M.prepare (s, report)
    local kind, address = s.device.kind, s.device.pci
    if kind == "raw" or kind == "tap" then
        use_ordinary_memory()
    elseif kind == "xdp" then
        local BPF_MAGIC = 0xcafe4a11
        local filesystem = S.statfs("/sys/fs/bpf")
        if not filesystem or tonumber(filesystem.f_type) % 2^32 ~= BPF_MAGIC then
            error("no bpf file system is mounted at /sys/fs/bpf", 0)
        end
        -- All packets are in one piece of memory that the kernel knows: 3 pages each, and up to 15000 in use.
        require("apps.xdp.xdp").snabb_enable_xdp({ num_chunks = 48 * 1024 })
    else
        if not S.stat(pci.path(address)) then error(("there is no PCI device %s"):format(address), 0) end
        -- A switch that was killed may have left the device writing into memory that is no longer its own.
        pci.set_bus_master(address, false)
        report_hugepages(report)
        -- Now, because what fails in here later on says less.
        S.mkdir("/var/run/snabb")
        if not pcall(memory.ensure_hugetlbfs) then
            error("hugetlbfs cannot be mounted at /var/run/snabb/hugetlbfs", 0)
        end
        if not pcall(memory.dma_alloc, 128) then
            error(("no hugepage of %d KiB is free, and none could be added"):format(memory.huge_page_size / 1024), 0)
        end
    end
end

-- To be called last.
function M.release (s)
    if s.device.kind == "xdp" then
        -- The app can't be stopped; at least its program is detached, else the interface stays deaf.
        local xdp, name = require("apps.xdp.xdp").driver, s.device.interface
        if app.app_table.vm then app.app_table.vm:stop() end
        xdp:set_link_xdp(name, { getfd = function () return -1 end })
        S.util.rm("/sys/fs/bpf/snabb/" .. name)
    else
        app.stop()
    end
end

return M
