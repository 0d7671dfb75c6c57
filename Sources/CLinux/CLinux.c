#define _GNU_SOURCE
#include "CLinux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <malloc.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

char **clinux_environment(void) { return environ; }

int clinux_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
int clinux_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

// QEMU locks a byte of the file for each thing that it does with it: the second one is writing.
int clinux_has_qemu_writer(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0) return -1;
    return lock.l_type != F_UNLCK;
}

int clinux_rename_new(const char *old_path, const char *new_path) {
    if (renameat2(AT_FDCWD, old_path, AT_FDCWD, new_path, RENAME_NOREPLACE) == 0) return 0;
    // Not every file system can; a link can't take the place of a file either.
    if (errno != EINVAL && errno != ENOSYS) return -1;
    if (link(old_path, new_path) < 0) return -1;
    return unlink(old_path);
}

void clinux_release_unused(void) {
    malloc_trim(0);
    // Below this frame, and below what the processor's ABI lets a function use beneath its own.
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), reach = 256 << 10;
    uintptr_t end = ((uintptr_t)__builtin_frame_address(0) - 4096) & ~(page - 1);
    madvise((void *)(end - reach), reach, MADV_DONTNEED);
}

int clinux_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

int clinux_sealed_copy(int fd) {
    int copy = memfd_create("snabbvm-copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (copy < 0) return -1;
    ssize_t count;
    while ((count = sendfile(copy, fd, NULL, 1 << 30)) > 0) {}
    if (count == 0 && fchmod(copy, 0444) == 0 &&
        fcntl(copy, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0)
        return copy;
    int error = errno;
    close(copy);
    errno = error;
    return -1;
}

int clinux_adopt_orphans(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
int clinux_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
int clinux_pidfd_send_signal(int pidfd, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}
int clinux_signalfd(const sigset_t *signals) { return signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK); }

int clinux_pseudo_terminal(int *master, char *name, size_t name_size) {
    *master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*master < 0) return -1;
    if (grantpt(*master) == 0 && unlockpt(*master) == 0 && ptsname_r(*master, name, name_size) == 0) return 0;
    close(*master);
    return -1;
}

int clinux_set_window_size(int fd, unsigned short rows, unsigned short columns) {
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    return ioctl(fd, TIOCSWINSZ, &size);
}

int clinux_window_size(int fd, unsigned short *rows, unsigned short *columns) {
    struct winsize size = {0};
    int result = ioctl(fd, TIOCGWINSZ, &size);
    *rows = size.ws_row;
    *columns = size.ws_col;
    return result;
}

static int at_path(const char *path, int (*act)(int, const struct sockaddr *, socklen_t)) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (act(fd, (const struct sockaddr *)&address, sizeof address) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int bind_and_listen(int fd, const struct sockaddr *address, socklen_t size) {
    // Nobody else may connect: the mode is there before the name is.
    mode_t before = umask(0177);
    int result = bind(fd, address, size);
    umask(before);
    return result < 0 ? result : listen(fd, 16);
}

int clinux_listen(const char *path) { return at_path(path, bind_and_listen); }
int clinux_connect(const char *path) { return at_path(path, connect); }

int clinux_peer_user(int fd, uid_t *user) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return -1;
    *user = peer.uid;
    return 0;
}

static int interface_request(unsigned long request, struct ifreq *parameters) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int result = ioctl(fd, request, parameters);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

static void set_name(char field[IFNAMSIZ], const char *name) { snprintf(field, IFNAMSIZ, "%s", name); }

int clinux_interface_set_up(const char *name, int up) {
    struct ifreq parameters = {0};
    set_name(parameters.ifr_name, name);
    if (interface_request(SIOCGIFFLAGS, &parameters) < 0) return -1;
    if (up) parameters.ifr_flags |= IFF_UP;
    else parameters.ifr_flags &= ~IFF_UP;
    return interface_request(SIOCSIFFLAGS, &parameters);
}

int clinux_interface_rename(const char *name, const char *new_name) {
    struct ifreq parameters = {0};
    set_name(parameters.ifr_name, name);
    set_name(parameters.ifr_newname, new_name);
    return interface_request(SIOCSIFNAME, &parameters);
}

static int set_tap(const char *name, int multi_queue, int persistent) {
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0) return -1;
    struct ifreq parameters = {.ifr_flags = IFF_TAP | IFF_NO_PI | (multi_queue ? IFF_MULTI_QUEUE : 0)};
    set_name(parameters.ifr_name, name);
    int result = ioctl(fd, TUNSETIFF, &parameters);
    if (result == 0) result = ioctl(fd, TUNSETPERSIST, persistent);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

int clinux_tap_make(const char *name, int multi_queue) { return set_tap(name, multi_queue, 1); }

// Sends a request of rtnetlink that is only answered by an error, or none.
static int tell_rtnetlink(const void *request, size_t size) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return -1;
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
    } answer = {0};
    ssize_t count = send(fd, request, size, 0);
    if (count >= 0) count = recv(fd, &answer, sizeof answer, 0);
    int error = count < 0 ? errno : -answer.error.error;
    close(fd);
    errno = error;
    return error == 0 ? 0 : -1;
}

int clinux_tap_remove(const char *name, int multi_queue) {
    // Refused for what is no such tap, and while somebody has it open.
    if (set_tap(name, multi_queue, 0) < 0 && errno != EBUSY) return -1;
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } request = {
        .header = {sizeof request, RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0},
        .link = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name)},
    };
    // The kernel may close a killed process's files some time after its end.
    return request.link.ifi_index == 0 ? 0 : tell_rtnetlink(&request, sizeof request);
}

// RTM_SETLINK with a nested IFLA_XDP that names no program.
int clinux_xdp_detach(const char *name) {
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
        struct rtattr xdp, fd;
        int none;
    } request = {
        .header = {sizeof request, RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0},
        .link = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name)},
        .xdp = {2 * sizeof(struct rtattr) + sizeof(int), IFLA_XDP | NLA_F_NESTED},
        .fd = {sizeof(struct rtattr) + sizeof(int), IFLA_XDP_FD},
        .none = -1,
    };
    return request.link.ifi_index == 0 ? -1 : tell_rtnetlink(&request, sizeof request);
}

// RTM_GETLINK, and in the answer the IFLA_XDP_ATTACHED in IFLA_XDP.
int clinux_xdp_attached(const char *name) {
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } request = {
        .header = {sizeof request, RTM_GETLINK, NLM_F_REQUEST, 1, 0},
        .link = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name)},
    };
    union {
        struct nlmsghdr header;
        char bytes[32768];
    } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return 0;
    ssize_t count = send(fd, &request, sizeof request, 0);
    if (count >= 0) count = recv(fd, &answer, sizeof answer, 0);
    close(fd);
    if (count < (ssize_t)NLMSG_LENGTH(sizeof request.link) || answer.header.nlmsg_type != RTM_NEWLINK) return 0;
    struct ifinfomsg *link = NLMSG_DATA(&answer.header);
    int rest = (int)IFLA_PAYLOAD(&answer.header);
    for (struct rtattr *a = IFLA_RTA(link); RTA_OK(a, rest); a = RTA_NEXT(a, rest)) {
        if ((a->rta_type & NLA_TYPE_MASK) != IFLA_XDP) continue;
        int inner = (int)RTA_PAYLOAD(a);
        for (struct rtattr *b = RTA_DATA(a); RTA_OK(b, inner); b = RTA_NEXT(b, inner)) {
            if (b->rta_type == IFLA_XDP_ATTACHED) return *(unsigned char *)RTA_DATA(b) != XDP_ATTACHED_NONE;
        }
    }
    return 0;
}

int clinux_interface_events(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return -1;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

int clinux_device_file(const char *path, unsigned major, unsigned minor) {
    return mknod(path, S_IFCHR | 0600, makedev(major, minor));
}

int clinux_namespace_name(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    // A name that begins with zero stands in no folder.
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "%s", name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    if (bind(fd, (struct sockaddr *)&address, size) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int is_rival(const struct nlmsghdr *answer, const char *prefix, const char *own) {
    const struct unix_diag_msg *socket = NLMSG_DATA(answer);
    int rest = (int)answer->nlmsg_len - (int)NLMSG_LENGTH(sizeof *socket), matches = 0;
    uid_t user = (uid_t)-1;
    for (struct rtattr *a = (struct rtattr *)(socket + 1); RTA_OK(a, rest); a = RTA_NEXT(a, rest)) {
        const char *bytes = RTA_DATA(a);
        // A name in no folder begins with zero, and ends without one.
        size_t length = RTA_PAYLOAD(a);
        if (a->rta_type == UNIX_DIAG_NAME && length > 1 && bytes[0] == 0)
            matches = length > 1 + strlen(prefix) && memcmp(bytes + 1, prefix, strlen(prefix)) == 0 &&
                      !(length == 1 + strlen(own) && memcmp(bytes + 1, own, strlen(own)) == 0);
        if (a->rta_type == UNIX_DIAG_UID && length == sizeof user) memcpy(&user, bytes, sizeof user);
    }
    return matches && (user == 0 || user == geteuid());
}

int clinux_namespace_rivals(const char *prefix, const char *own) {
    struct {
        struct nlmsghdr header;
        struct unix_diag_req what;
    } request = {
        .header = {sizeof request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0},
        .what = {.sdiag_family = AF_UNIX, .udiag_states = ~0U, .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_UID,
                 .udiag_cookie = {~0U, ~0U}},
    };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0) return -1;
    union {
        struct nlmsghdr header;
        char bytes[32768];
    } answer;
    int rivals = 0, error = 0, more = 1;
    if (send(fd, &request, sizeof request, 0) < 0) error = errno;
    while (more && error == 0) {
        ssize_t count = recv(fd, &answer, sizeof answer, 0);
        if (count < 0) error = errno;
        for (struct nlmsghdr *one = &answer.header; count > 0 && NLMSG_OK(one, count); one = NLMSG_NEXT(one, count)) {
            if (one->nlmsg_type == NLMSG_DONE) more = 0;
            else if (one->nlmsg_type == NLMSG_ERROR) error = -((struct nlmsgerr *)NLMSG_DATA(one))->error;
            else rivals += is_rival(one, prefix, own);
        }
    }
    close(fd);
    errno = error;
    return error == 0 ? rivals : -1;
}

int clinux_neighbour_socket(const char *interface) {
    // ARP; or IPv6 whose first header is ICMPv6, of types 135 and 136.
    // Each jump says how many lines to skip when it is so, and when it is not.
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 7, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 20),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 3),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 54),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 135, 0, 1),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 136, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 256),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    address.sll_ifindex = (int)if_nametoindex(interface);
    // The filter first, so that nothing else is ever in the queue.
    if (address.sll_ifindex == 0 ||
        setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

ssize_t clinux_send_frame(int fd, const unsigned char *frame, size_t size) { return send(fd, frame, size, 0); }

ssize_t clinux_receive_frame(int fd, unsigned char *frame, size_t capacity, int *is_outgoing) {
    struct sockaddr_ll from = {0};
    socklen_t size = sizeof from;
    ssize_t count = recvfrom(fd, frame, capacity, 0, (struct sockaddr *)&from, &size);
    *is_outgoing = from.sll_pkttype == PACKET_OUTGOING;
    return count;
}

int clinux_mount(const char *device, const char *path, const char *kind) { return mount(device, path, kind, 0, NULL); }
int clinux_remount(const char *path, int writable, int only_mount) {
    struct statvfs now;
    if (statvfs(path, &now) < 0) return -1;
    unsigned long flags = MS_REMOUNT | (only_mount ? MS_BIND : 0) | (writable ? 0 : MS_RDONLY);
    if (now.f_flag & ST_NOSUID) flags |= MS_NOSUID;
    if (now.f_flag & ST_NODEV) flags |= MS_NODEV;
    if (now.f_flag & ST_NOEXEC) flags |= MS_NOEXEC;
    if (now.f_flag & ST_RELATIME) flags |= MS_RELATIME;
    return mount(NULL, path, NULL, flags, NULL);
}
int clinux_unmount(const char *path) { return umount2(path, 0); }
