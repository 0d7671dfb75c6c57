# What snabbvm would do for machine 'vm'. Nothing has been touched.
# Note: no hugepages on this host, so the machine has ordinary memory
# Note: VNC on 0.0.0.0:5901 has no password; give one with --vnc-password-file

# Make what the machine needs
mkdir -p -m 755 /run/snabbvm
mkdir -p -m 711 /run/snabbvm/vm
mkdir -p -m 755 /var/lib/snabbvm
mkdir -p -m 700 /var/lib/snabbvm/vm
(umask 177; printf %s 'What is here is of machine vm, and is removed when that ends, or when one of its name starts.
' > /var/lib/snabbvm/vm/made-by-snabbvm)
/usr/bin/qemu-img create -q -f qcow2 -b /u/disk.qcow2 -F qcow2 /var/lib/snabbvm/vm/disk.img.new &&
    mv /var/lib/snabbvm/vm/disk.img.new /var/lib/snabbvm/vm/disk.img
/usr/sbin/ip -batch - <<'.'
tuntap add dev sve56f9ct0 mode tap user 65534
link set dev sve56f9ct0 address fe:df:36:03:02:0c mtu 1450 addrgenmode none
link set dev sve56f9ct0 addrgenmode eui64
link set dev sve56f9ct0 up
address add 10.231.0.1/24 dev sve56f9ct0
address add fdd8:9a04:be02::1/64 dev sve56f9ct0 nodad
.
echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding
echo 0 > /proc/sys/net/ipv6/conf/eth1/forwarding
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
/usr/sbin/ip -batch - <<'.'
tuntap add dev sve56f9ct1 mode tap user 65534
link set dev sve56f9ct1 address fe:b5:1f:88:d7:07 mtu 1500 addrgenmode none
link set dev sve56f9ct1 up
address add 10.231.1.1/24 dev sve56f9ct1
.
echo 1 > /proc/sys/net/ipv4/conf/eth1/forwarding
/usr/sbin/ip -batch - <<'.'
tuntap add dev sve56f9ct2 mode tap user 65534
link set dev sve56f9ct2 address fe:79:3b:64:73:83 mtu 1500 addrgenmode none
link set dev sve56f9ct2 up
address add 10.231.2.1/24 dev sve56f9ct2
.
echo 1 > /proc/sys/net/ipv4/conf/eth2/forwarding
/usr/sbin/ip -batch - <<'.'
tuntap add dev sve56f9ct3 mode tap user 65534
link set dev sve56f9ct3 address fe:4b:20:99:aa:71 mtu 1500 addrgenmode none
link set dev sve56f9ct3 up
address add 10.231.3.1/24 dev sve56f9ct3
.
echo 1 > /proc/sys/net/ipv4/conf/ipv0/forwarding
/usr/sbin/ip -batch - <<'.'
tuntap add dev sve56f9ct4 mode tap user 65534
link set dev sve56f9ct4 address fe:7c:02:a9:2a:4e mtu 1500 addrgenmode none
link set dev sve56f9ct4 up
address add 10.231.4.1/24 dev sve56f9ct4
.
echo 1 > /proc/sys/net/ipv4/conf/br0/forwarding
/usr/sbin/nft -f - <<'.'
table inet snabbvm_e56f9c {
    chain destination {
        type nat hook prerouting priority dstnat; policy accept;
        iifname "eth0" ip daddr { 172.17.0.2 } meta l4proto tcp tcp dport != { 5901 } dnat ip to 10.231.0.2
        iifname "eth0" ip daddr { 172.17.0.2 } meta l4proto != tcp dnat ip to 10.231.0.2
        iifname "eth0" ip6 daddr { 2001:db8:17::2 } meta l4proto tcp tcp dport != { 5901 } dnat ip6 to fdd8:9a04:be02::2
        iifname "eth0" ip6 daddr { 2001:db8:17::2 } meta l4proto != tcp dnat ip6 to fdd8:9a04:be02::2
        iifname "eth1" ip daddr { 172.18.0.2 } meta l4proto tcp tcp dport != { 5901 } dnat ip to 10.231.1.2
        iifname "eth1" ip daddr { 172.18.0.2 } meta l4proto != tcp dnat ip to 10.231.1.2
        iifname "br0" ip daddr { 10.20.0.1 } meta l4proto tcp tcp dport != { 5901 } dnat ip to 10.231.4.2
        iifname "br0" ip daddr { 10.20.0.1 } meta l4proto != tcp dnat ip to 10.231.4.2
    }
    chain source {
        type nat hook postrouting priority srcnat; policy accept;
        oifname != "sve56f9ct0" ip saddr 10.231.0.2 masquerade
        oifname != "sve56f9ct0" ip6 saddr fdd8:9a04:be02::2 masquerade
        oifname != "sve56f9ct1" ip saddr 10.231.1.2 masquerade
        oifname != "sve56f9ct2" ip saddr 10.231.2.2 masquerade
        oifname != "sve56f9ct3" ip saddr 10.231.3.2 masquerade
        oifname != "sve56f9ct4" ip saddr 10.231.4.2 masquerade
    }
    chain through {
        type filter hook forward priority filter; policy accept;
        iifname "sve56f9ct0" tcp flags syn tcp option maxseg size set rt mtu
        oifname "sve56f9ct0" tcp flags syn tcp option maxseg size set rt mtu
        iifname "sve56f9ct1" tcp flags syn tcp option maxseg size set rt mtu
        oifname "sve56f9ct1" tcp flags syn tcp option maxseg size set rt mtu
        iifname "sve56f9ct2" tcp flags syn tcp option maxseg size set rt mtu
        oifname "sve56f9ct2" tcp flags syn tcp option maxseg size set rt mtu
        iifname "sve56f9ct3" tcp flags syn tcp option maxseg size set rt mtu
        oifname "sve56f9ct3" tcp flags syn tcp option maxseg size set rt mtu
        iifname "sve56f9ct4" tcp flags syn tcp option maxseg size set rt mtu
        oifname "sve56f9ct4" tcp flags syn tcp option maxseg size set rt mtu
        meta nfproto ipv4 iifname { "eth0", "eth1", "eth2", "ipv0", "br0" } oifname != { "sve56f9ct0", "sve56f9ct1", "sve56f9ct2", "sve56f9ct3", "sve56f9ct4" } drop
        meta nfproto ipv6 iifname != { "sve56f9ct0", "sve56f9ct1", "sve56f9ct2", "sve56f9ct3", "sve56f9ct4" } oifname != { "sve56f9ct0", "sve56f9ct1", "sve56f9ct2", "sve56f9ct3", "sve56f9ct4" } drop
    }
}
.
(umask 177; printf %s '# For this machine alone: nobody else is answered.
dhcp-ignore=tag:!known
dhcp-authoritative
dhcp-broadcast
no-ping
dhcp-leasefile=/run/snabbvm/vm/leases
pid-file=
no-hosts
no-resolv
bind-dynamic
except-interface=lo
log-facility=-
quiet-dhcp
quiet-dhcp6
quiet-ra
user=nobody
port=0
enable-ra
interface=sve56f9ct0
dhcp-range=set:eth0,10.231.0.2,10.231.0.2,255.255.255.0,infinite
dhcp-option=tag:eth0,option:router,10.231.0.1
dhcp-option=tag:eth0,option:dns-server,10.1.1.1
dhcp-option=tag:eth0,option:domain-name,svc.example
dhcp-option=tag:eth0,option:domain-search,svc.example,example
dhcp-option=tag:eth0,option:mtu,1450
dhcp-range=set:eth0six,fdd8:9a04:be02::2,fdd8:9a04:be02::2,64,infinite
ra-param=sve56f9ct0,60,1800
dhcp-host=96:df:36:03:02:0c,10.231.0.2,[fdd8:9a04:be02::2],infinite
interface=sve56f9ct1
dhcp-range=set:eth1,10.231.1.2,10.231.1.2,255.255.255.0,infinite
dhcp-option=tag:eth1,option:router
dhcp-option=tag:eth1,option:classless-static-route,172.18.0.0/16,10.231.1.1
dhcp-option=tag:eth1,option:dns-server,10.1.1.1
dhcp-option=tag:eth1,option:domain-name,svc.example
dhcp-option=tag:eth1,option:domain-search,svc.example,example
dhcp-option=tag:eth1,option:mtu,1500
dhcp-host=ae:b5:1f:88:d7:07,10.231.1.2,infinite
interface=sve56f9ct2
dhcp-range=set:eth2,10.231.2.2,10.231.2.2,255.255.255.0,infinite
dhcp-option=tag:eth2,option:router,10.231.2.1
dhcp-option=tag:eth2,option:dns-server,10.1.1.1
dhcp-option=tag:eth2,option:domain-name,svc.example
dhcp-option=tag:eth2,option:domain-search,svc.example,example
dhcp-option=tag:eth2,option:mtu,1500
dhcp-host=ee:79:3b:64:73:83,10.231.2.2,infinite
interface=sve56f9ct3
dhcp-range=set:eth3,10.231.3.2,10.231.3.2,255.255.255.0,infinite
dhcp-option=tag:eth3,option:router,10.231.3.1
dhcp-option=tag:eth3,option:dns-server,10.1.1.1
dhcp-option=tag:eth3,option:domain-name,svc.example
dhcp-option=tag:eth3,option:domain-search,svc.example,example
dhcp-option=tag:eth3,option:mtu,1500
dhcp-host=42:4b:20:99:aa:71,10.231.3.2,infinite
interface=sve56f9ct4
dhcp-range=set:eth4,10.231.4.2,10.231.4.2,255.255.255.0,infinite
dhcp-option=tag:eth4,option:router
dhcp-option=tag:eth4,option:classless-static-route,10.20.0.0/24,10.231.4.1
dhcp-option=tag:eth4,option:dns-server,10.1.1.1
dhcp-option=tag:eth4,option:domain-name,svc.example
dhcp-option=tag:eth4,option:domain-search,svc.example,example
dhcp-option=tag:eth4,option:mtu,1500
dhcp-host=4a:7c:02:a9:2a:4e,10.231.4.2,infinite
' > /run/snabbvm/vm/dnsmasq.conf)
(umask 177; printf %s '' > /run/snabbvm/vm/leases)
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

# What gives it its address
/usr/sbin/dnsmasq --keep-in-foreground --conf-file=/run/snabbvm/vm/dnsmasq.conf & started="$started $!"

# Start it
install -d -m 700 -o 65534 -g 65534 /run/snabbvm/vm/qemu
HOME=/nonexistent LC_ALL=C.UTF-8 TERM=screen-256color setpriv --reuid 65534 --regid 65534 --groups 993 /usr/bin/qemu-system-x86_64 -name guest=vm,process=snabbvm-vm -uuid e71d5ea6-8d3a-45dd-9a2a-d57febcf8268 -nodefaults -no-user-config -machine q35,memory-backend=memory -accel kvm -cpu host -smp 1 -m 2048M -object memory-backend-memfd,id=memory,size=2048M,share=on -smbios type=1,manufacturer=snabbvm,product=snabbvm,version=VERSION,serial=e71d5ea6-8d3a-45dd-9a2a-d57febcf8268,sku=vm -sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny -rtc base=utc -boot menu=off,strict=on -chardev socket,id=serial,path=/run/snabbvm/vm/qemu/serial,server=on,wait=off -chardev socket,id=qmp,path=/run/snabbvm/vm/qemu/qmp,server=on,wait=off -chardev socket,id=agent,path=/run/snabbvm/vm/qemu/agent,server=on,wait=off -mon chardev=qmp,mode=control -serial chardev:serial -device virtio-serial-pci -device virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0 -device VGA -display curses -vnc 0.0.0.0:1 -device qemu-xhci -device usb-tablet -netdev tap,id=eth0,ifname=sve56f9ct0,script=no,downscript=no,vhost=on,vhostfd=6 -device virtio-net-pci,id=nic-eth0,netdev=eth0,mac=96:df:36:03:02:0c,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1450,romfile= -netdev tap,id=eth1,ifname=sve56f9ct1,script=no,downscript=no,vhost=on,vhostfd=7 -device virtio-net-pci,id=nic-eth1,netdev=eth1,mac=ae:b5:1f:88:d7:07,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1500,romfile= -netdev tap,id=eth2,ifname=sve56f9ct2,script=no,downscript=no,vhost=on,vhostfd=8 -device virtio-net-pci,id=nic-eth2,netdev=eth2,mac=ee:79:3b:64:73:83,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1500,romfile= -netdev tap,id=eth3,ifname=sve56f9ct3,script=no,downscript=no,vhost=on,vhostfd=9 -device virtio-net-pci,id=nic-eth3,netdev=eth3,mac=42:4b:20:99:aa:71,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1500,romfile= -netdev tap,id=eth4,ifname=sve56f9ct4,script=no,downscript=no,vhost=on,vhostfd=10 -device virtio-net-pci,id=nic-eth4,netdev=eth4,mac=4a:7c:02:a9:2a:4e,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1500,romfile= -object iothread,id=io -add-fd fd=11,set=11 -blockdev driver=file,node-name=disk0-base-file,filename=/dev/fdset/11,read-only=on -blockdev driver=qcow2,node-name=disk0-base,file=disk0-base-file,read-only=on -add-fd fd=12,set=12 -blockdev driver=file,node-name=disk0-file,filename=/dev/fdset/12,discard=unmap -blockdev driver=qcow2,node-name=disk0,file=disk0-file,discard=unmap,backing=disk0-base -device virtio-blk-pci,drive=disk0,iothread=io,bootindex=1 -device virtio-rng-pci 6<>/dev/vhost-net 7<>/dev/vhost-net 8<>/dev/vhost-net 9<>/dev/vhost-net 10<>/dev/vhost-net 11</u/disk.qcow2 12<>/var/lib/snabbvm/vm/disk.img

# Beside it: the windows to look at it with
SHELL=/bin/sh /usr/bin/tmux -u -S /run/snabbvm/vm/tmux -f /run/snabbvm/vm/tmux.conf start-server ';' display-message -p '#{pid}'

# When it ends, give back
kill $started
rm -r /run/snabbvm/vm/qemu
rm -f /run/snabbvm/vm/tmux.conf
rm -f /run/snabbvm/vm/leases
rm -f /run/snabbvm/vm/dnsmasq.conf
/usr/sbin/nft delete table inet snabbvm_e56f9c
echo 0 > /proc/sys/net/ipv4/conf/br0/forwarding
/usr/sbin/ip -force -batch - <<'.'
link delete dev sve56f9ct4
.
echo 0 > /proc/sys/net/ipv4/conf/ipv0/forwarding
/usr/sbin/ip -force -batch - <<'.'
link delete dev sve56f9ct3
.
echo 0 > /proc/sys/net/ipv4/conf/eth2/forwarding
/usr/sbin/ip -force -batch - <<'.'
link delete dev sve56f9ct2
.
echo 0 > /proc/sys/net/ipv4/conf/eth1/forwarding
/usr/sbin/ip -force -batch - <<'.'
link delete dev sve56f9ct1
.
echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
echo 1 > /proc/sys/net/ipv6/conf/eth1/forwarding
echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding
/usr/sbin/ip -force -batch - <<'.'
link delete dev sve56f9ct0
.
rm -f /var/lib/snabbvm/vm/disk.img
rm -f /var/lib/snabbvm/vm/made-by-snabbvm
rmdir /var/lib/snabbvm/vm
rmdir /var/lib/snabbvm 2>/dev/null || true
rmdir /run/snabbvm/vm
rmdir /run/snabbvm 2>/dev/null || true
