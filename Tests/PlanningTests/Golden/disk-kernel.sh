# What snabbvm would do for machine 'vm'. Nothing has been touched.

# Make what the machine needs
mkdir -p -m 755 /run/snabbvm
mkdir -p -m 711 /run/snabbvm/vm
mkdir -p -m 755 /var/lib/snabbvm
mkdir -p -m 700 /var/lib/snabbvm/vm
(umask 177; printf %s 'What is here is of machine vm, and is removed when that ends, or when one of its name starts.
' > /var/lib/snabbvm/vm/made-by-snabbvm)
/usr/bin/qemu-img create -q -f qcow2 -b /u/disk.raw -F raw /var/lib/snabbvm/vm/disk.img.new &&
    mv /var/lib/snabbvm/vm/disk.img.new /var/lib/snabbvm/vm/disk.img
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
' > /run/snabbvm/vm/tmux.conf)

# Start it
install -d -m 700 -o 65534 -g 65534 /run/snabbvm/vm/qemu
HOME=/nonexistent LC_ALL=C.UTF-8 TERM=screen-256color setpriv --reuid 65534 --regid 65534 --groups 108 /usr/bin/qemu-system-x86_64 -name guest=vm,process=snabbvm-vm -uuid e71d5ea6-8d3a-45dd-9a2a-d57febcf8268 -nodefaults -no-user-config -machine q35,memory-backend=memory -accel kvm -cpu host -smp 1 -m 2048M -object memory-backend-memfd,id=memory,size=2048M,share=on,hugetlb=on,hugetlbsize=1G,prealloc=on,prealloc-threads=1,host-nodes=1,policy=bind -smbios type=1,manufacturer=snabbvm,product=snabbvm,version=VERSION,serial=e71d5ea6-8d3a-45dd-9a2a-d57febcf8268,sku=vm -sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny -rtc base=utc -boot menu=off,strict=on -chardev socket,id=serial,path=/run/snabbvm/vm/qemu/serial,server=on,wait=off -chardev socket,id=qmp,path=/run/snabbvm/vm/qemu/qmp,server=on,wait=off -chardev socket,id=agent,path=/run/snabbvm/vm/qemu/agent,server=on,wait=off -mon chardev=qmp,mode=control -serial chardev:serial -device virtio-serial-pci -device virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0 -device VGA -display curses -vnc 127.0.0.1:1 -device qemu-xhci -device usb-tablet -netdev user,id=eth0 -device virtio-net-pci,id=nic-eth0,netdev=eth0,mac=96:df:36:03:02:0c,romfile= -object iothread,id=io -add-fd fd=6,set=6 -blockdev driver=file,node-name=disk0-base-file,filename=/dev/fdset/6,read-only=on -blockdev driver=raw,node-name=disk0-base,file=disk0-base-file,read-only=on -add-fd fd=7,set=7 -blockdev driver=file,node-name=disk0-file,filename=/dev/fdset/7,discard=unmap -blockdev driver=qcow2,node-name=disk0,file=disk0-file,discard=unmap,backing=disk0-base -device virtio-blk-pci,drive=disk0,iothread=io,bootindex=1 -device virtio-rng-pci -kernel /proc/self/fd/8 -initrd /proc/self/fd/9 -append 'console=ttyS0 quiet root=/dev/vda1' 6</u/disk.raw 7<>/var/lib/snabbvm/vm/disk.img 8</u/vmlinuz 9</u/initrd

# Beside it: the windows to look at it with
SHELL=/bin/sh /usr/bin/tmux -u -S /run/snabbvm/vm/tmux -f /run/snabbvm/vm/tmux.conf start-server ';' display-message -p '#{pid}'

# When it ends, give back
rm -r /run/snabbvm/vm/qemu
rm -f /run/snabbvm/vm/tmux.conf
rm -f /var/lib/snabbvm/vm/disk.img
rm -f /var/lib/snabbvm/vm/made-by-snabbvm
rmdir /var/lib/snabbvm/vm
rmdir /var/lib/snabbvm 2>/dev/null || true
rmdir /run/snabbvm/vm
rmdir /run/snabbvm 2>/dev/null || true
