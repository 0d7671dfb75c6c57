# What snabbvm would do for machine 'vm'. Nothing has been touched.

# Make what the machine needs
mkdir -p -m 755 /run/snabbvm
mkdir -p -m 711 /run/snabbvm/vm
mkdir -p -m 700 /srv/state
/usr/bin/qemu-img create -q -f qcow2 -b /u/disk.qcow2 -F qcow2 /srv/state/disk.img.new 10737418240 &&
    mv /srv/state/disk.img.new /srv/state/disk.img
/usr/bin/cp --reflink=auto --sparse=auto --no-preserve=mode /usr/share/OVMF/OVMF_VARS_4M.fd /srv/state/firmware-variables.fd.new &&
    mv /srv/state/firmware-variables.fd.new /srv/state/firmware-variables.fd
(umask 177; printf %s '{
  "diskFormat": "qcow2",
  "diskSize": 10737418240,
  "image": {
    "allocated": 2147483648,
    "fileSize": 2147483648,
    "format": "qcow2",
    "isBlockDevice": false,
    "modified": 1700000000000000000,
    "path": "/u/disk.qcow2",
    "virtualSize": 4294967296
  },
  "isOverlay": true,
  "uuid": "e71d5ea6-8d3a-45dd-9a2a-d57febcf8268"
}
' > /srv/state/machine.json)
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
select-window -t =vm:serial
' > /run/snabbvm/vm/tmux.conf)

# Start it
install -d -m 700 -o 65534 -g 65534 /run/snabbvm/vm/qemu
HOME=/nonexistent LC_ALL=C.UTF-8 TERM=screen-256color setpriv --reuid 65534 --regid 65534 --groups 108 /usr/bin/qemu-system-x86_64 -name guest=vm,process=snabbvm-vm -uuid e71d5ea6-8d3a-45dd-9a2a-d57febcf8268 -nodefaults -no-user-config -blockdev driver=file,node-name=firmware-code,read-only=on,filename=/usr/share/OVMF/OVMF_CODE_4M.fd -add-fd fd=6,set=6 -blockdev driver=file,node-name=firmware-variables,filename=/dev/fdset/6 -machine q35,memory-backend=memory,pflash0=firmware-code,pflash1=firmware-variables -accel kvm -cpu host -smp 1 -m 2048M -object memory-backend-memfd,id=memory,size=2048M,share=on,hugetlb=on,hugetlbsize=1G,prealloc=on,prealloc-threads=1,host-nodes=1,policy=bind -smbios type=1,manufacturer=snabbvm,product=snabbvm,version=VERSION,serial=e71d5ea6-8d3a-45dd-9a2a-d57febcf8268,sku=vm -sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny -rtc base=utc -boot menu=off,strict=on -chardev socket,id=serial,path=/run/snabbvm/vm/qemu/serial,server=on,wait=off -chardev socket,id=qmp,path=/run/snabbvm/vm/qemu/qmp,server=on,wait=off -chardev socket,id=agent,path=/run/snabbvm/vm/qemu/agent,server=on,wait=off -mon chardev=qmp,mode=control -serial chardev:serial -device virtio-serial-pci -device virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0 -device VGA -display curses -vnc 127.0.0.1:1 -device qemu-xhci -device usb-tablet -netdev user,id=eth0 -device virtio-net-pci,id=nic-eth0,netdev=eth0,mac=96:df:36:03:02:0c,romfile= -object iothread,id=io -add-fd fd=7,set=7 -blockdev driver=file,node-name=disk0-base-file,filename=/dev/fdset/7,read-only=on -blockdev driver=qcow2,node-name=disk0-base,file=disk0-base-file,read-only=on -add-fd fd=8,set=8 -blockdev driver=file,node-name=disk0-file,filename=/dev/fdset/8,discard=unmap -blockdev driver=qcow2,node-name=disk0,file=disk0-file,discard=unmap,backing=disk0-base -device virtio-blk-pci,drive=disk0,iothread=io,bootindex=1 -device virtio-rng-pci 6<>/srv/state/firmware-variables.fd 7</u/disk.qcow2 8<>/srv/state/disk.img

# Beside it: the windows to look at it with
SHELL=/bin/sh /usr/bin/tmux -u -S /run/snabbvm/vm/tmux -f /run/snabbvm/vm/tmux.conf start-server ';' display-message -p '#{pid}'

# When it ends, give back
rm -r /run/snabbvm/vm/qemu
rm -f /run/snabbvm/vm/tmux.conf
rmdir /run/snabbvm/vm
rmdir /run/snabbvm 2>/dev/null || true
