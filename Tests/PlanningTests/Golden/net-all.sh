# What snabbvm would do for machine 'vm'. Nothing has been touched.
# Note: no hugepages on this host, so the machine has ordinary memory
# Note: VNC on 0.0.0.0:5901 has no password; give one with --vnc-password-file
# Note: --net-all leaves out ipv0: it can't be used with --net bridge
# Note: --net-all leaves out br0: it can't be used with --net bridge
# Note: eth2 has no address, so the machine gets none from here (--address)

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
link add name sve56f9cb0 address 02:42:ac:11:00:02 mtu 1450 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 group_fwd_mask 0xfff8
tuntap add dev sve56f9ct0 mode tap user 65534
link set dev sve56f9ct0 address fe:df:36:03:02:0c mtu 1450 addrgenmode none
link set dev sve56f9ct0 master sve56f9cb0 up
link set dev sve56f9cb0 up
address add 172.17.0.2/16 broadcast 172.17.255.255 scope global dev sve56f9cb0
address add 2001:db8:17::2/64 scope global nodad dev sve56f9cb0
link set dev eth0 master sve56f9cb0
route del 10.7.0.1/32 table 77 dev eth0
route add 10.7.0.1/32 table 77 dev sve56f9cb0
route del 0.0.0.0/0 via 172.17.0.1 dev eth0
route add 0.0.0.0/0 via 172.17.0.1 dev sve56f9cb0
route del 10.9.0.0/16 via 172.17.0.9 metric 5 mtu 1400 onlink dev eth0
route add 10.9.0.0/16 via 172.17.0.9 metric 5 mtu 1400 onlink dev sve56f9cb0
route del ::/0 via 2001:db8:17::1 metric 1024 pref medium dev eth0
route append ::/0 via 2001:db8:17::1 metric 1024 pref medium dev sve56f9cb0
neigh replace 172.17.0.9 lladdr 02:42:ac:11:00:09 dev sve56f9cb0 nud permanent
address del 2001:db8:17::2/64 dev eth0
address del 172.17.0.2/16 dev eth0
.
/usr/sbin/ip -batch - <<'.'
link add name sve56f9cb1 address 02:42:ac:12:00:02 mtu 1500 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 group_fwd_mask 0xfff8
link set dev sve56f9cb1 addrgenmode none
tuntap add dev sve56f9ct1 mode tap user 65534
link set dev sve56f9ct1 address fe:b5:1f:88:d7:07 mtu 1500 addrgenmode none
link set dev sve56f9ct1 master sve56f9cb1 up
link set dev sve56f9cb1 up
address add 172.18.0.2/16 broadcast 172.18.255.255 scope global dev sve56f9cb1
link set dev eth1 master sve56f9cb1
address del 172.18.0.2/16 dev eth1
.
/usr/sbin/ip -batch - <<'.'
link add name sve56f9cb2 address 02:42:ac:13:00:02 mtu 1500 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 group_fwd_mask 0xfff8
link set dev sve56f9cb2 addrgenmode none
tuntap add dev sve56f9ct2 mode tap user 65534
link set dev sve56f9ct2 address fe:79:3b:64:73:83 mtu 1500 addrgenmode none
link set dev sve56f9ct2 master sve56f9cb2 up
link set dev sve56f9cb2 up
link set dev eth2 master sve56f9cb2
.
/usr/sbin/nft -f - <<'.'
table bridge snabbvm_e56f9c {
    chain through {
        type filter hook forward priority filter; policy accept;
        iifname "sve56f9ct0" ether type ip tcp flags syn tcp option maxseg size > 1410 tcp option maxseg size set 1410
        iifname "sve56f9ct0" ether type ip6 tcp flags syn tcp option maxseg size > 1390 tcp option maxseg size set 1390
        oifname "sve56f9ct0" ether type ip tcp flags syn tcp option maxseg size > 1410 tcp option maxseg size set 1410
        oifname "sve56f9ct0" ether type ip6 tcp flags syn tcp option maxseg size > 1390 tcp option maxseg size set 1390
        iifname "sve56f9ct0" udp dport { 67, 547 } drop
        oifname "sve56f9ct0" udp sport { 67, 547 } drop
        iifname "sve56f9ct1" udp dport { 67, 547 } drop
        oifname "sve56f9ct1" udp sport { 67, 547 } drop
    }
    chain to_us {
        type filter hook input priority filter; policy accept;
        iifname "eth0" udp dport { 67, 547 } drop
        iifname "eth1" udp dport { 67, 547 } drop
    }
    chain from_us {
        type filter hook output priority filter; policy accept;
        oifname "eth0" udp sport { 67, 547 } drop
        oifname "eth0" icmpv6 type nd-router-advert drop
        oifname "eth1" udp sport { 67, 547 } drop
        oifname "eth1" icmpv6 type nd-router-advert drop
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
interface=sve56f9cb0
dhcp-range=set:eth0,172.17.255.254,172.17.255.254,255.255.0.0,infinite
dhcp-option=tag:eth0,option:router,172.17.0.1
dhcp-option=tag:eth0,option:classless-static-route,0.0.0.0/0,172.17.0.1,10.9.0.0/16,172.17.0.9
dhcp-option=tag:eth0,option:dns-server,10.1.1.1
dhcp-option=tag:eth0,option:domain-name,svc.example
dhcp-option=tag:eth0,option:domain-search,svc.example,example
dhcp-option=tag:eth0,option:mtu,1450
dhcp-range=set:eth0six,2001:db8:17:0:ffff:ffff:ffff:feff,2001:db8:17:0:ffff:ffff:ffff:feff,64,infinite
ra-param=sve56f9cb0,60,0
dhcp-host=96:df:36:03:02:0c,172.17.255.254,[2001:db8:17:0:ffff:ffff:ffff:feff],infinite
interface=sve56f9cb1
dhcp-range=set:eth1,172.18.255.254,172.18.255.254,255.255.0.0,infinite
dhcp-option=tag:eth1,option:router
dhcp-option=tag:eth1,option:dns-server,10.1.1.1
dhcp-option=tag:eth1,option:domain-name,svc.example
dhcp-option=tag:eth1,option:domain-search,svc.example,example
dhcp-option=tag:eth1,option:mtu,1500
dhcp-host=ae:b5:1f:88:d7:07,172.18.255.254,infinite
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
HOME=/nonexistent LC_ALL=C.UTF-8 TERM=screen-256color setpriv --reuid 65534 --regid 65534 --groups 993 /usr/bin/qemu-system-x86_64 -name guest=vm,process=snabbvm-vm -uuid e71d5ea6-8d3a-45dd-9a2a-d57febcf8268 -nodefaults -no-user-config -machine q35,memory-backend=memory -accel kvm -cpu host -smp 1 -m 2048M -object memory-backend-memfd,id=memory,size=2048M,share=on -smbios type=1,manufacturer=snabbvm,product=snabbvm,version=VERSION,serial=e71d5ea6-8d3a-45dd-9a2a-d57febcf8268,sku=vm -sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny -rtc base=utc -boot menu=off,strict=on -chardev socket,id=serial,path=/run/snabbvm/vm/qemu/serial,server=on,wait=off -chardev socket,id=qmp,path=/run/snabbvm/vm/qemu/qmp,server=on,wait=off -chardev socket,id=agent,path=/run/snabbvm/vm/qemu/agent,server=on,wait=off -mon chardev=qmp,mode=control -serial chardev:serial -device virtio-serial-pci -device virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0 -device VGA -display curses -vnc 0.0.0.0:1 -device qemu-xhci -device usb-tablet -netdev tap,id=eth0,ifname=sve56f9ct0,script=no,downscript=no,vhost=on,vhostfd=6 -device virtio-net-pci,id=nic-eth0,netdev=eth0,mac=96:df:36:03:02:0c,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1450,romfile= -netdev tap,id=eth1,ifname=sve56f9ct1,script=no,downscript=no,vhost=on,vhostfd=7 -device virtio-net-pci,id=nic-eth1,netdev=eth1,mac=ae:b5:1f:88:d7:07,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1500,romfile= -netdev tap,id=eth2,ifname=sve56f9ct2,script=no,downscript=no,vhost=on,vhostfd=8 -device virtio-net-pci,id=nic-eth2,netdev=eth2,mac=ee:79:3b:64:73:83,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_mtu=1500,romfile= -object iothread,id=io -add-fd fd=9,set=9 -blockdev driver=file,node-name=disk0-base-file,filename=/dev/fdset/9,read-only=on -blockdev driver=qcow2,node-name=disk0-base,file=disk0-base-file,read-only=on -add-fd fd=10,set=10 -blockdev driver=file,node-name=disk0-file,filename=/dev/fdset/10,discard=unmap -blockdev driver=qcow2,node-name=disk0,file=disk0-file,discard=unmap,backing=disk0-base -device virtio-blk-pci,drive=disk0,iothread=io,bootindex=1 -device virtio-rng-pci 6<>/dev/vhost-net 7<>/dev/vhost-net 8<>/dev/vhost-net 9</u/disk.qcow2 10<>/var/lib/snabbvm/vm/disk.img

# Beside it: the windows to look at it with
SHELL=/bin/sh /usr/bin/tmux -u -S /run/snabbvm/vm/tmux -f /run/snabbvm/vm/tmux.conf start-server ';' display-message -p '#{pid}'

# When it ends, give back
kill $started
rm -r /run/snabbvm/vm/qemu
rm -f /run/snabbvm/vm/tmux.conf
rm -f /run/snabbvm/vm/leases
rm -f /run/snabbvm/vm/dnsmasq.conf
/usr/sbin/nft delete table bridge snabbvm_e56f9c
/usr/sbin/ip -force -batch - <<'.'
link set dev eth2 nomaster
link delete dev sve56f9cb2
link delete dev sve56f9ct2
.
/usr/sbin/ip -force -batch - <<'.'
address add 172.18.0.2/16 broadcast 172.18.255.255 scope global label eth1:a dev eth1
link set dev eth1 nomaster
link delete dev sve56f9cb1
link delete dev sve56f9ct1
.
/usr/sbin/ip -force -batch - <<'.'
address add 172.17.0.2/16 broadcast 172.17.255.255 scope global label eth0 dev eth0
address add 2001:db8:17::2/64 scope global nodad dev eth0
route del 10.7.0.1/32 table 77 dev sve56f9cb0
route add 10.7.0.1/32 table 77 dev eth0
route del 0.0.0.0/0 via 172.17.0.1 dev sve56f9cb0
route add 0.0.0.0/0 via 172.17.0.1 dev eth0
route del 10.9.0.0/16 via 172.17.0.9 metric 5 mtu 1400 onlink dev sve56f9cb0
route add 10.9.0.0/16 via 172.17.0.9 metric 5 mtu 1400 onlink dev eth0
route del ::/0 via 2001:db8:17::1 metric 1024 pref medium dev sve56f9cb0
route append ::/0 via 2001:db8:17::1 metric 1024 pref medium dev eth0
neigh replace 172.17.0.9 lladdr 02:42:ac:11:00:09 dev eth0 nud permanent
link set dev eth0 nomaster
link delete dev sve56f9cb0
link delete dev sve56f9ct0
.
rm -f /var/lib/snabbvm/vm/disk.img
rm -f /var/lib/snabbvm/vm/made-by-snabbvm
rmdir /var/lib/snabbvm/vm
rmdir /var/lib/snabbvm 2>/dev/null || true
rmdir /run/snabbvm/vm
rmdir /run/snabbvm 2>/dev/null || true
