#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

char **clinux_environment(void) { return environ; }

int clinux_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
int clinux_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int clinux_adopt_orphans(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
int clinux_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
int clinux_pidfd_send_signal(int pidfd, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}
int clinux_signalfd(const sigset_t *signals) { return signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK); }
int clinux_wait_exited(int status) { return WIFEXITED(status); }
int clinux_wait_code(int status) { return WEXITSTATUS(status); }
int clinux_wait_signal(int status) { return WTERMSIG(status); }

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
int clinux_tap_remove(const char *name, int multi_queue) { return set_tap(name, multi_queue, 0); }

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
    if (request.link.ifi_index == 0) return -1;
    int socket_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (socket_fd < 0) return -1;
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
    } answer = {0};
    ssize_t count = send(socket_fd, &request, sizeof request, 0);
    if (count >= 0) count = recv(socket_fd, &answer, sizeof answer, 0);
    int error = count < 0 ? errno : -answer.error.error;
    close(socket_fd);
    errno = error;
    return error == 0 ? 0 : -1;
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
