# What snabbvm would do for machine 'vm'. Nothing has been touched.

# Make what the machine needs
mkdir -p -m 755 /run/snabbvm
mkdir -p -m 711 /run/snabbvm/vm
mkdir -p -m 755 /var/lib/snabbvm
mkdir -p -m 700 /var/lib/snabbvm/vm
(umask 177; printf %s 'What is here is of machine vm, and is removed when that ends, or when one of its name starts.
' > /var/lib/snabbvm/vm/made-by-snabbvm)
/usr/bin/qemu-img create -q -f qcow2 -b /u/disk.qcow2 -F qcow2 /var/lib/snabbvm/vm/disk.img.new &&
    mv /var/lib/snabbvm/vm/disk.img.new /var/lib/snabbvm/vm/disk.img
mkdir -p -m 700 /run/snabbvm/vm/ports && chown 65534:65534 /run/snabbvm/vm/ports
mkdir -p -m 700 /run/snabbvm/vm/switches
echo 0000:05:00.0 > /sys/bus/pci/drivers/ixgbe/unbind && echo 'snabbvm machine=vm host=server driver=ixgbe up=ens1f0 iommu=identity' > /sys/bus/pci/devices/0000:05:00.0/driver_override &&
    setpci -s 0000:05:00.0 COMMAND=0:4
sleep 0.3 && grep -qx 'snabbvm machine=vm host=server driver=ixgbe up=ens1f0 iommu=identity' /sys/bus/pci/devices/0000:05:00.0/driver_override
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
' > /run/snabbvm/vm/tmux.conf)

# The switch of port xe0, 0000:05:00.0
SNABB_SHM_ROOT=/run/snabbvm/vm/snabb /usr/bin/snabb snsh /usr/local/share/snabbvm/switch/port.lua /run/snabbvm/vm/switches/xe0.json & started="$started $!"

# Start it
install -d -m 700 -o 65534 -g 65534 /run/snabbvm/vm/qemu
HOME=/nonexistent LC_ALL=C.UTF-8 TERM=screen-256color setpriv --reuid 65534 --regid 65534 --groups 108 taskset -c 4-6,12-14 /usr/bin/qemu-system-x86_64 -name guest=vm,process=snabbvm-vm -uuid e71d5ea6-8d3a-45dd-9a2a-d57febcf8268 -nodefaults -no-user-config -machine q35,memory-backend=memory -accel kvm -cpu host -smp 1 -m 2048M -object memory-backend-memfd,id=memory,size=2048M,share=on,hugetlb=on,hugetlbsize=1G,prealloc=on,prealloc-threads=1,host-nodes=1,policy=bind -smbios type=1,manufacturer=snabbvm,product=snabbvm,version=VERSION,serial=e71d5ea6-8d3a-45dd-9a2a-d57febcf8268,sku=vm -sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny -rtc base=utc -boot menu=off,strict=on -chardev socket,id=serial,path=/run/snabbvm/vm/qemu/serial,server=on,wait=off -chardev socket,id=qmp,path=/run/snabbvm/vm/qemu/qmp,server=on,wait=off -chardev socket,id=agent,path=/run/snabbvm/vm/qemu/agent,server=on,wait=off -mon chardev=qmp,mode=control -serial chardev:serial -device virtio-serial-pci -device virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0 -device VGA -display curses -vnc 127.0.0.1:1 -device qemu-xhci -device usb-tablet -netdev user,id=eth0 -device virtio-net-pci,id=nic-eth0,netdev=eth0,mac=96:df:36:03:02:0c,romfile= -chardev socket,id=xe0,path=/run/snabbvm/vm/ports/xe0.sock,server=on,wait=off -netdev vhost-user,id=xe0,chardev=xe0 -device virtio-net-pci,id=nic-xe0,netdev=xe0,mac=d2:a6:a1:1a:d5:ae,csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off,mrg_rxbuf=on,rx_queue_size=1024,romfile= -object iothread,id=io -add-fd fd=6,set=6 -blockdev driver=file,node-name=disk0-base-file,filename=/dev/fdset/6,read-only=on -blockdev driver=qcow2,node-name=disk0-base,file=disk0-base-file,read-only=on -add-fd fd=7,set=7 -blockdev driver=file,node-name=disk0-file,filename=/dev/fdset/7,discard=unmap -blockdev driver=qcow2,node-name=disk0,file=disk0-file,discard=unmap,backing=disk0-base -device virtio-blk-pci,drive=disk0,iothread=io,bootindex=1 -device virtio-rng-pci 6</u/disk.qcow2 7<>/var/lib/snabbvm/vm/disk.img

# Beside it: the windows to look at it with
SHELL=/bin/sh /usr/bin/tmux -u -S /run/snabbvm/vm/tmux -f /run/snabbvm/vm/tmux.conf start-server ';' display-message -p '#{pid}'

# When it ends, give back
kill $started
rm -r /run/snabbvm/vm/qemu
rm -f /run/snabbvm/vm/tmux.conf
rm -r /run/snabbvm/vm/snabb
umount /var/run/snabb/hugetlbfs
rm -f /run/snabbvm/vm/switches/xe0.json
[ ! -e /sys/bus/pci/devices/0000:05:00.0/driver ] || echo 0000:05:00.0 > /sys/bus/pci/devices/0000:05:00.0/driver/unbind
setpci -s 0000:05:00.0 COMMAND=0:4
echo identity > /sys/bus/pci/devices/0000:05:00.0/iommu_group/type
echo '' > /sys/bus/pci/devices/0000:05:00.0/driver_override
echo 0000:05:00.0 > /sys/bus/pci/drivers/ixgbe/bind
ip link set ens1f0 up
rmdir /run/snabbvm/vm/switches
rmdir /run/snabbvm/vm/ports
rm -f /var/lib/snabbvm/vm/disk.img
rm -f /var/lib/snabbvm/vm/made-by-snabbvm
rmdir /var/lib/snabbvm/vm
rmdir /var/lib/snabbvm 2>/dev/null || true
rmdir /run/snabbvm/vm
rmdir /run/snabbvm 2>/dev/null || true
