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
link set dev sve56f9ct0 address fe:42:ac:11:00:02 mtu 1450 addrgenmode none
link set dev sve56f9ct0 up
address add 10.231.0.1 peer 10.231.0.2 dev sve56f9ct0
neigh add 10.231.0.2 lladdr 02:42:ac:11:00:02 dev sve56f9ct0 nud permanent
.
/usr/sbin/nft -f - <<'.'
table netdev snabbvm_e56f9c {
    set eth0_own4 { type inet_proto . ipv4_addr . inet_service . inet_service; size 65535; flags dynamic,timeout; timeout 12h; }
    set eth0_own6 { type inet_proto . ipv6_addr . inet_service . inet_service; size 65535; flags dynamic,timeout; timeout 12h; }
    chain eth0_in {
        type filter hook ingress device "eth0" priority filter; policy accept;
        ether type ip tcp flags syn tcp option maxseg size > 1410 tcp option maxseg size set 1410
        ether type ip6 tcp flags syn tcp option maxseg size > 1390 tcp option maxseg size set 1390
        ether type arp dup to "sve56f9ct0" accept
        icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } dup to "sve56f9ct0" accept
        icmp type { echo-reply, destination-unreachable, time-exceeded, parameter-problem } dup to "sve56f9ct0" accept
        icmpv6 type { echo-reply, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } dup to "sve56f9ct0" accept
        ip daddr 172.17.0.2 tcp dport { 5901 } accept
        ip6 daddr 2001:db8:17::2 tcp dport { 5901 } accept
        meta l4proto . ip saddr . th sport . th dport @eth0_own4 accept
        meta l4proto . ip6 saddr . th sport . th dport @eth0_own6 accept
        ip frag-off & 0x1fff != 0 dup to "sve56f9ct0" accept
        exthdr frag exists dup to "sve56f9ct0" accept
        fwd to "sve56f9ct0"
    }
    chain eth0_out {
        type filter hook egress device "eth0" priority filter; policy accept;
        meta mark 0x5b accept
        meta l4proto { tcp, udp } update @eth0_own4 { meta l4proto . ip daddr . th dport . th sport }
        meta l4proto { tcp, udp } update @eth0_own6 { meta l4proto . ip6 daddr . th dport . th sport }
    }
    chain eth0_from_guest {
        type filter hook ingress device "sve56f9ct0" priority filter; policy accept;
        ether type ip tcp flags syn tcp option maxseg size > 1410 tcp option maxseg size set 1410
        ether type ip6 tcp flags syn tcp option maxseg size > 1390 tcp option maxseg size set 1390
        ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
        ip daddr 10.231.0.1 ether daddr set fe:42:ac:11:00:02 meta pkttype set host ip saddr set 10.231.0.2 accept
        meta mark set 0x5b fwd to "eth0"
    }
    chain eth0_to_guest {
        type filter hook egress device "sve56f9ct0" priority filter; policy accept;
        ip daddr 10.231.0.2 ip daddr set 172.17.0.2
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
interface=sve56f9ct0
dhcp-range=set:eth0,172.17.0.2,172.17.0.2,255.255.0.0,infinite
shared-network=sve56f9ct0,172.17.0.2
dhcp-option=tag:eth0,option:router,172.17.0.1
dhcp-option=tag:eth0,option:classless-static-route,0.0.0.0/0,172.17.0.1,10.9.0.0/16,172.17.0.9
dhcp-option=tag:eth0,option:dns-server,10.1.1.1
dhcp-option=tag:eth0,option:domain-name,svc.example
dhcp-option=tag:eth0,option:domain-search,svc.example,example
dhcp-option=tag:eth0,option:mtu,1450
dhcp-host=02:42:ac:11:00:02,172.17.0.2,infinite
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
HOME=/nonexistent LC_ALL=C.UTF-8 TERM=screen-256color setpriv --reuid 65534 --regid 65534 --groups 993 /usr/bin/qemu-system-x86_64 -name guest=vm,process=snabbvm-vm -uuid e71d5ea6-8d3a-45dd-9a2a-d57febcf8268 -nodefaults -no-user-config -machine q35,memory-backend=memory -accel kvm -cpu host -smp 1 -m 2048M -object memory-backend-memfd,id=memory,size=2048M,share=on -smbios type=1,manufacturer=snabbvm,product=snabbvm,version=VERSION,serial=e71d5ea6-8d3a-45dd-9a2a-d57febcf8268,sku=vm -sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny -rtc base=utc -boot menu=off,strict=on -chardev socket,id=serial,path=/run/snabbvm/vm/qemu/serial,server=on,wait=off -chardev socket,id=qmp,path=/run/snabbvm/vm/qemu/qmp,server=on,wait=off -chardev socket,id=agent,path=/run/snabbvm/vm/qemu/agent,server=on,wait=off -mon chardev=qmp,mode=control -serial chardev:serial -device virtio-serial-pci -device virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0 -device VGA -display curses -vnc 0.0.0.0:1 -device qemu-xhci -device usb-tablet -netdev tap,id=eth0,ifname=sve56f9ct0,script=no,downscript=no,vhost=on,vhostfd=6 -device virtio-net-pci,id=nic-eth0,netdev=eth0,mac=02:42:ac:11:00:02,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1450,romfile= -object iothread,id=io -add-fd fd=7,set=7 -blockdev driver=file,node-name=disk0-base-file,filename=/dev/fdset/7,read-only=on -blockdev driver=qcow2,node-name=disk0-base,file=disk0-base-file,read-only=on -add-fd fd=8,set=8 -blockdev driver=file,node-name=disk0-file,filename=/dev/fdset/8,discard=unmap -blockdev driver=qcow2,node-name=disk0,file=disk0-file,discard=unmap,backing=disk0-base -device virtio-blk-pci,drive=disk0,iothread=io,bootindex=1 -device virtio-rng-pci 6<>/dev/vhost-net 7</u/disk.qcow2 8<>/var/lib/snabbvm/vm/disk.img

# Beside it: the windows to look at it with
SHELL=/bin/sh /usr/bin/tmux -u -S /run/snabbvm/vm/tmux -f /run/snabbvm/vm/tmux.conf start-server ';' display-message -p '#{pid}'

# When it ends, give back
kill $started
rm -r /run/snabbvm/vm/qemu
rm -f /run/snabbvm/vm/tmux.conf
rm -f /run/snabbvm/vm/leases
rm -f /run/snabbvm/vm/dnsmasq.conf
/usr/sbin/nft delete table netdev snabbvm_e56f9c
/usr/sbin/ip -force -batch - <<'.'
link delete dev sve56f9ct0
.
rm -f /var/lib/snabbvm/vm/disk.img
rm -f /var/lib/snabbvm/vm/made-by-snabbvm
rmdir /var/lib/snabbvm/vm
rmdir /var/lib/snabbvm 2>/dev/null || true
rmdir /run/snabbvm/vm
rmdir /run/snabbvm 2>/dev/null || true
