# What snabbvm would do for machine 'vm'. Nothing has been touched.
# Note: eth0 does without vhost-net: with several queues, QEMU would have to be root to open it

# Make what the machine needs
mkdir -p -m 755 /run/snabbvm
mkdir -p -m 711 /run/snabbvm/vm
mkdir -p -m 755 /var/lib/snabbvm
mkdir -p -m 700 /var/lib/snabbvm/vm
(umask 177; printf %s 'What is here is of machine vm, and is removed when that ends, or when one of its name starts.
' > /var/lib/snabbvm/vm/made-by-snabbvm)
/usr/bin/qemu-img create -q -f qcow2 -b /u/disk.qcow2 -F qcow2 /var/lib/snabbvm/vm/disk.img.new &&
    mv /var/lib/snabbvm/vm/disk.img.new /var/lib/snabbvm/vm/disk.img
mkdir -p -m 700 /run/snabbvm/vm/seed
install -m 600 /u/user-data /run/snabbvm/vm/seed/0
(umask 177; printf %s 'instance-id: "e71d5ea6-8d3a-45dd-9a2a-d57febcf8268"
local-hostname: "vm"
' > /run/snabbvm/vm/seed/1)
(umask 177; printf %s '#cloud-config
{}
' > /run/snabbvm/vm/seed/2)
(umask 177; printf %s '{
  "ethernets": {
    "eth0": {
      "dhcp4": true,
      "match": {
        "macaddress": "96:df:36:03:02:0c"
      },
      "mtu": 1500
    }
  },
  "version": 2
}
' > /run/snabbvm/vm/seed/3)
(umask 177; printf %s '{
  "hostname": "vm",
  "name": "vm",
  "uuid": "e71d5ea6-8d3a-45dd-9a2a-d57febcf8268"
}' > /run/snabbvm/vm/seed/5)
(umask 177; printf %s '"#cloud-config\n{}\n"' > /run/snabbvm/vm/seed/6)
(umask 177; printf %s '{
  "links": [
    {
      "ethernet_mac_address": "96:df:36:03:02:0c",
      "id": "eth0",
      "mtu": 1500,
      "type": "phy"
    }
  ],
  "networks": [
    {
      "id": "eth0-dhcp",
      "link": "eth0",
      "type": "ipv4_dhcp"
    }
  ],
  "services": []
}
' > /run/snabbvm/vm/seed/7)
(umask 077; /usr/bin/xorriso -as mkisofs -quiet -no-pad -volid cidata -joliet -rock -graft-points user-data=/run/snabbvm/vm/seed/0 meta-data=/run/snabbvm/vm/seed/1 vendor-data=/run/snabbvm/vm/seed/2 network-config=/run/snabbvm/vm/seed/3 openstack/latest/user_data=/run/snabbvm/vm/seed/0 openstack/latest/meta_data.json=/run/snabbvm/vm/seed/5 openstack/latest/vendor_data.json=/run/snabbvm/vm/seed/6 openstack/latest/network_data.json=/run/snabbvm/vm/seed/7 > /run/snabbvm/vm/seed.iso)
/usr/sbin/ip -batch - <<'.'
tuntap add dev sve56f9ct0 mode tap user 65534 multi_queue
link set dev sve56f9ct0 address fe:df:36:03:02:0c mtu 1500 addrgenmode none
link set dev sve56f9ct0 master br0 up
.
mkdir -p -m 700 /run/snabbvm/vm/ports && chown 65534:65534 /run/snabbvm/vm/ports
mkdir -p -m 700 /run/snabbvm/vm/switches
echo 0000:05:00.0 > /sys/bus/pci/drivers/ixgbe/unbind && echo 'snabbvm machine=vm host=server driver=ixgbe up=ens1f0 iommu=identity' > /sys/bus/pci/devices/0000:05:00.0/driver_override &&
    setpci -s 0000:05:00.0 COMMAND=0:4
echo 0000:07:00.0 > /sys/bus/pci/drivers/i40e/unbind && echo 'snabbvm machine=vm host=server driver=i40e up=ens3f0 iommu=identity' > /sys/bus/pci/devices/0000:07:00.0/driver_override &&
    setpci -s 0000:07:00.0 COMMAND=0:4
echo 0000:81:00.0 > /sys/bus/pci/drivers/nvme/unbind && echo 'snabbvm machine=vm host=server driver=nvme iommu=identity' > /sys/bus/pci/devices/0000:81:00.0/driver_override &&
    setpci -s 0000:81:00.0 COMMAND=0:4
sleep 0.3 && grep -qx 'snabbvm machine=vm host=server driver=ixgbe up=ens1f0 iommu=identity' /sys/bus/pci/devices/0000:05:00.0/driver_override && grep -qx 'snabbvm machine=vm host=server driver=i40e up=ens3f0 iommu=identity' /sys/bus/pci/devices/0000:07:00.0/driver_override && grep -qx 'snabbvm machine=vm host=server driver=nvme iommu=identity' /sys/bus/pci/devices/0000:81:00.0/driver_override
(umask 177; printf %s '{
  "cpu": 15,
  "device": {
    "kind": "intel_mp",
    "pci": "0000:05:00.0"
  },
  "mac": "d2:a6:a1:1a:d5:ae",
  "mtu": 1500,
  "name": "xe0",
  "queues": 1,
  "socket": "/run/snabbvm/vm/ports/xe0.sock",
  "vmdq": false
}
' > /run/snabbvm/vm/switches/xe0.json)
echo vfio-pci > /sys/bus/pci/devices/0000:07:00.0/driver_override && echo 0000:07:00.0 > /sys/bus/pci/drivers/vfio-pci/bind &&
    echo 'snabbvm machine=vm host=server driver=i40e up=ens3f0 iommu=identity' > /sys/bus/pci/devices/0000:07:00.0/driver_override
echo vfio-pci > /sys/bus/pci/devices/0000:81:00.0/driver_override && echo 0000:81:00.0 > /sys/bus/pci/drivers/vfio-pci/bind &&
    echo 'snabbvm machine=vm host=server driver=nvme iommu=identity' > /sys/bus/pci/devices/0000:81:00.0/driver_override
(umask 177; printf %s '{
  "cpu": 14,
  "device": {
    "interface": "new0",
    "kind": "tap"
  },
  "mac": "6e:0e:24:f6:5d:47",
  "mtu": 1500,
  "name": "xe3",
  "queues": 1,
  "socket": "/run/snabbvm/vm/ports/xe3.sock",
  "vmdq": false
}
' > /run/snabbvm/vm/switches/xe3.json)
ip tuntap add dev new0 mode tap
(umask 177; printf %s '{
  "cpu": 13,
  "device": {
    "interface": "ens4",
    "kind": "raw"
  },
  "mac": "82:70:b3:e7:f0:1b",
  "mtu": 1500,
  "name": "xe4",
  "queues": 1,
  "socket": "/run/snabbvm/vm/ports/xe4.sock",
  "vmdq": false
}
' > /run/snabbvm/vm/switches/xe4.json)
mountpoint -q /var/run/snabb/hugetlbfs || { mkdir -p /var/run/snabb/hugetlbfs && mount -t hugetlbfs snabbvm /var/run/snabb/hugetlbfs; }
mkdir -p -m 700 /run/snabbvm/vm/snabb
(umask 177; printf %s 'set -g default-terminal screen-256color
set -g history-limit 20000
set -s escape-time 50
set -g update-environment '\'''\''
set -g window-size latest
set -g mouse off
set -g status-left '\''[#S] '\''
set -g status-left-length 40
set -g status-right-length 60
set -g status-right '\''C-b n next window, C-b [ scroll '\''
set -g window-status-separator '\'' '\''
set -g set-titles on
set -g set-titles-string '\''snabbvm #S: #W'\''
new-session -d -x 80 -y 25 -s vm -n screen '\''/usr/local/bin/snabbvm'\'' relay screen --name vm --run-dir '\''/run/snabbvm'\''
new-window -d -t =vm: -n serial '\''/usr/local/bin/snabbvm'\'' relay serial --name vm --run-dir '\''/run/snabbvm'\''
new-window -d -t =vm: -n log '\''/usr/local/bin/snabbvm'\'' relay log --name vm --run-dir '\''/run/snabbvm'\''
new-window -d -t =vm: -n xe0 '\''/usr/local/bin/snabbvm'\'' relay xe0 --name vm --run-dir '\''/run/snabbvm'\''
new-window -d -t =vm: -n xe1 '\''/usr/local/bin/snabbvm'\'' relay xe1 --name vm --run-dir '\''/run/snabbvm'\''
new-window -d -t =vm: -n xe2 '\''/usr/local/bin/snabbvm'\'' relay xe2 --name vm --run-dir '\''/run/snabbvm'\''
new-window -d -t =vm: -n xe3 '\''/usr/local/bin/snabbvm'\'' relay xe3 --name vm --run-dir '\''/run/snabbvm'\''
new-window -d -t =vm: -n xe4 '\''/usr/local/bin/snabbvm'\'' relay xe4 --name vm --run-dir '\''/run/snabbvm'\''
' > /run/snabbvm/vm/tmux.conf)

# The switch of port xe0, 0000:05:00.0
SNABB_SHM_ROOT=/run/snabbvm/vm/snabb /usr/bin/snabb snsh /usr/local/share/snabbvm/switch/port.lua /run/snabbvm/vm/switches/xe0.json & started="$started $!"

# The switch of port xe1, 0000:07:00.0
/usr/bin/dpdk-testpmd --lcores '0@(4,12),1@11' --in-memory -m 64 --no-telemetry --iova-mode=va --vdev net_vhost0,iface=/run/snabbvm/vm/ports/xe1.sock,client=1,queues=1 -a 0000:07:00.0 -- --forward-mode=io --no-mlockall --stats-period=1 --rxq=1 --txq=1 --total-num-mbufs=16384 & started="$started $!"

# The switch of port xe3, tap:new0
SNABB_SHM_ROOT=/run/snabbvm/vm/snabb /usr/bin/snabb snsh /usr/local/share/snabbvm/switch/port.lua /run/snabbvm/vm/switches/xe3.json & started="$started $!"

# The switch of port xe4, if:ens4
SNABB_SHM_ROOT=/run/snabbvm/vm/snabb /usr/bin/snabb snsh /usr/local/share/snabbvm/switch/port.lua /run/snabbvm/vm/switches/xe4.json & started="$started $!"

# Start it
install -d -m 700 -o 65534 -g 65534 /run/snabbvm/vm/qemu
HOME=/nonexistent LC_ALL=C.UTF-8 TERM=screen-256color prlimit --memlock=9663676416 unshare --mount sh -ec 'mount -t tmpfs none /sys
mknod -m 600 /sys/0 c $(stat -c '\''0x%t 0x%T'\'' /dev/vfio/vfio)
chown 65534:65534 /sys/0
mount --bind /sys/0 /dev/vfio/vfio
mknod -m 600 /sys/1 c $(stat -c '\''0x%t 0x%T'\'' /dev/vfio/30)
chown 65534:65534 /sys/1
mount --bind /sys/1 /dev/vfio/30
umount -l /sys
exec "$@"' sh setpriv --reuid 65534 --regid 65534 --groups 108 taskset -c 4,12 /usr/bin/qemu-system-x86_64 -name guest=vm,process=snabbvm-vm -uuid e71d5ea6-8d3a-45dd-9a2a-d57febcf8268 -nodefaults -no-user-config -machine q35,memory-backend=memory -accel kvm -cpu host -smp 8 -m 8192M -object memory-backend-memfd,id=memory,size=8192M,share=on,hugetlb=on,hugetlbsize=1G,prealloc=on,prealloc-threads=8,host-nodes=1,policy=bind -smbios type=1,manufacturer=snabbvm,product=snabbvm,version=VERSION,serial=e71d5ea6-8d3a-45dd-9a2a-d57febcf8268,sku=vm -sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny -rtc base=utc -boot menu=off,strict=on -chardev socket,id=serial,path=/run/snabbvm/vm/qemu/serial,server=on,wait=off -chardev socket,id=qmp,path=/run/snabbvm/vm/qemu/qmp,server=on,wait=off -chardev socket,id=agent,path=/run/snabbvm/vm/qemu/agent,server=on,wait=off -mon chardev=qmp,mode=control -serial chardev:serial -device virtio-serial-pci -device virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0 -device VGA -display curses -vnc 127.0.0.1:1 -device qemu-xhci -device usb-tablet -netdev tap,id=eth0,ifname=sve56f9ct0,script=no,downscript=no,queues=8 -device virtio-net-pci,id=nic-eth0,netdev=eth0,mac=96:df:36:03:02:0c,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1500,mq=on,vectors=18,romfile= -chardev socket,id=xe0,path=/run/snabbvm/vm/ports/xe0.sock,server=on,wait=off -netdev vhost-user,id=xe0,chardev=xe0 -device virtio-net-pci,id=nic-xe0,netdev=xe0,mac=d2:a6:a1:1a:d5:ae,csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off,mrg_rxbuf=on,rx_queue_size=1024,romfile= -chardev socket,id=xe1,path=/run/snabbvm/vm/ports/xe1.sock,server=on,wait=off -netdev vhost-user,id=xe1,chardev=xe1 -device virtio-net-pci,id=nic-xe1,netdev=xe1,mac=ca:01:ff:c8:c4:f4,csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off,mrg_rxbuf=on,rx_queue_size=1024,romfile= -device vfio-pci,id=nic-xe2,host=0000:81:00.0,rombar=0 -chardev socket,id=xe3,path=/run/snabbvm/vm/ports/xe3.sock,server=on,wait=off -netdev vhost-user,id=xe3,chardev=xe3 -device virtio-net-pci,id=nic-xe3,netdev=xe3,mac=6e:0e:24:f6:5d:47,csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off,mrg_rxbuf=on,rx_queue_size=1024,romfile= -chardev socket,id=xe4,path=/run/snabbvm/vm/ports/xe4.sock,server=on,wait=off -netdev vhost-user,id=xe4,chardev=xe4 -device virtio-net-pci,id=nic-xe4,netdev=xe4,mac=82:70:b3:e7:f0:1b,csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off,mrg_rxbuf=on,rx_queue_size=1024,romfile= -object iothread,id=io -add-fd fd=6,set=6 -blockdev driver=file,node-name=disk0-base-file,filename=/dev/fdset/6,read-only=on -blockdev driver=qcow2,node-name=disk0-base,file=disk0-base-file,read-only=on -add-fd fd=7,set=7 -blockdev driver=file,node-name=disk0-file,filename=/dev/fdset/7,discard=unmap -blockdev driver=qcow2,node-name=disk0,file=disk0-file,discard=unmap,backing=disk0-base -device virtio-blk-pci,drive=disk0,iothread=io,bootindex=1 -add-fd fd=8,set=8 -blockdev driver=file,node-name=seed1-file,filename=/dev/fdset/8,read-only=on -blockdev driver=raw,node-name=seed1,file=seed1-file,read-only=on -device virtio-blk-pci,drive=seed1,iothread=io -device virtio-rng-pci 6</u/disk.qcow2 7<>/var/lib/snabbvm/vm/disk.img 8</run/snabbvm/vm/seed.iso

# Beside it: the windows to look at it with
SHELL=/bin/sh /usr/bin/tmux -u -S /run/snabbvm/vm/tmux -f /run/snabbvm/vm/tmux.conf start-server ';' display-message -p '#{pid}'

# When it ends, give back
kill $started
rm -r /run/snabbvm/vm/qemu
rm -f /run/snabbvm/vm/tmux.conf
rm -r /run/snabbvm/vm/snabb
umount /var/run/snabb/hugetlbfs
rm -f /run/snabbvm/vm/switches/xe4.json
ip link delete new0
rm -f /run/snabbvm/vm/switches/xe3.json
rm -f /run/snabbvm/vm/switches/xe0.json
[ ! -e /sys/bus/pci/devices/0000:81:00.0/driver ] || echo 0000:81:00.0 > /sys/bus/pci/devices/0000:81:00.0/driver/unbind
setpci -s 0000:81:00.0 COMMAND=0:4
echo identity > /sys/bus/pci/devices/0000:81:00.0/iommu_group/type
echo '' > /sys/bus/pci/devices/0000:81:00.0/driver_override
echo 0000:81:00.0 > /sys/bus/pci/drivers/nvme/bind
[ ! -e /sys/bus/pci/devices/0000:07:00.0/driver ] || echo 0000:07:00.0 > /sys/bus/pci/devices/0000:07:00.0/driver/unbind
setpci -s 0000:07:00.0 COMMAND=0:4
echo identity > /sys/bus/pci/devices/0000:07:00.0/iommu_group/type
echo '' > /sys/bus/pci/devices/0000:07:00.0/driver_override
echo 0000:07:00.0 > /sys/bus/pci/drivers/i40e/bind
ip link set ens3f0 up
[ ! -e /sys/bus/pci/devices/0000:05:00.0/driver ] || echo 0000:05:00.0 > /sys/bus/pci/devices/0000:05:00.0/driver/unbind
setpci -s 0000:05:00.0 COMMAND=0:4
echo identity > /sys/bus/pci/devices/0000:05:00.0/iommu_group/type
echo '' > /sys/bus/pci/devices/0000:05:00.0/driver_override
echo 0000:05:00.0 > /sys/bus/pci/drivers/ixgbe/bind
ip link set ens1f0 up
rmdir /run/snabbvm/vm/switches
rmdir /run/snabbvm/vm/ports
/usr/sbin/ip -force -batch - <<'.'
link delete dev sve56f9ct0
.
rm -f /run/snabbvm/vm/seed.iso
rm -f /run/snabbvm/vm/seed/7
rm -f /run/snabbvm/vm/seed/6
rm -f /run/snabbvm/vm/seed/5
rm -f /run/snabbvm/vm/seed/3
rm -f /run/snabbvm/vm/seed/2
rm -f /run/snabbvm/vm/seed/1
rm -f /run/snabbvm/vm/seed/0
rmdir /run/snabbvm/vm/seed
rm -f /var/lib/snabbvm/vm/disk.img
rm -f /var/lib/snabbvm/vm/made-by-snabbvm
rmdir /var/lib/snabbvm/vm
rmdir /var/lib/snabbvm 2>/dev/null || true
rmdir /run/snabbvm/vm
rmdir /run/snabbvm 2>/dev/null || true
