// What Glibc's Swift module lacks: system calls it has no header for, macros that
// Swift can't import, and a child made ready between fork and exec.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

char **clinux_environment(void);
int clinux_open(const char *path, int flags, mode_t mode);
int clinux_pipe(int ends[2]);
/// Whether a QEMU has the file open for writing, as the lock says that it takes for that: 1, 0, or -1 with errno.
int clinux_has_qemu_writer(int fd);
/// Gives a file a new name, unless there is one of that name already; 0, or -1 with errno.
int clinux_rename_new(const char *old_path, const char *new_path);
/// Gives the kernel back what the heap and the stack do not use just now.
void clinux_release_unused(void);
/// A file in memory, without a name that others could open it by.
int clinux_memory_file(const char *name);
/// The rest of a file in memory: whoever is given it can read it, open it anew, and never change it.
int clinux_sealed_copy(int fd);

/// Orphaned descendants become this process's children, as they become those of a container's first process.
int clinux_adopt_orphans(void);
int clinux_pidfd_open(pid_t pid);
int clinux_pidfd_send_signal(int pidfd, int signal);
int clinux_signalfd(const sigset_t *signals);

/// A new pseudo-terminal: the launcher's end, and the name of the child's.
int clinux_pseudo_terminal(int *master, char *name, size_t name_size);
int clinux_set_window_size(int fd, unsigned short rows, unsigned short columns);
int clinux_window_size(int fd, unsigned short *rows, unsigned short *columns);

/// A stream socket that listens at, or is connected to, a path; -1 with errno otherwise.
int clinux_listen(const char *path);
int clinux_connect(const char *path);
/// Who listened at the other end of a connected socket.
int clinux_peer_user(int fd, uid_t *user);

/// Network interfaces of this namespace; 0, or -1 with errno.
int clinux_interface_set_up(const char *name, int up);
int clinux_interface_rename(const char *name, const char *new_name);
/// A tap that stays when nobody has it open. Who opens it must agree on whether it can have more than one queue.
int clinux_tap_make(const char *name, int multi_queue);
int clinux_tap_remove(const char *name, int multi_queue);
int clinux_xdp_detach(const char *name);
int clinux_xdp_attached(const char *name);
/// A character device's file, for this user alone.
int clinux_device_file(const char *path, unsigned major, unsigned minor);
/// A socket that becomes readable when a network interface comes, goes or changes.
int clinux_interface_events(void);

/// A socket that holds a name as long as it is open: one in each network namespace.
int clinux_namespace_name(const char *name);
/// How many other sockets there have such names, of root's or of this process's user; -1 with errno.
int clinux_namespace_rivals(const char *prefix, const char *own);
/// A socket for this interface's ARP frames and neighbour discovery, in both directions, whatever bridge it is in.
int clinux_neighbour_socket(const char *interface);
/// Sends a frame by it.
ssize_t clinux_send_frame(int fd, const unsigned char *frame, size_t size);
/// The next frame's length, or -1; what this host itself sent is told apart.
ssize_t clinux_receive_frame(int fd, unsigned char *frame, size_t capacity, int *is_outgoing);

int clinux_mount(const char *device, const char *path, const char *kind);
/// Only this mount, or the whole file system; other settings stay.
int clinux_remount(const char *path, int writable, int only_mount);
int clinux_unmount(const char *path);

struct clinux_spawn {
    const char *path;
    char *const *argv;
    char *const *envp;
    const int *descriptors;  // descriptors[i] becomes the child's descriptor i; the child has no others
    int descriptor_count;
    bool own_session;           // so that signals to the launcher's terminal or group don't reach it
    bool controlling_terminal;  // descriptor 0 is the session's terminal
    int death_signal;           // sent when the parent dies; 0 for none
    bool drop_rights;  // no capability is left, whoever it runs as
    bool may_bind;     // but that to listen on ports below 1024
    bool change_user;
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    int group_count;
    const int *cpus;  // the processors that it may use; none for all
    int cpu_count;
    const char *const *devices;  // files that are replaced by the user's own, each made at its place first
    const char *const *device_places;
    const char *device_folder;  // where those are, for a moment: a folder that is always there
    int device_count;
    uint64_t address_space;  // bytes; 0 for no limit
    uint64_t locked_memory;
    uint64_t cpu_seconds;    // 0 for no limit
};

/// The child's pid, or -1 with *error set to an errno and *step to the name of what failed.
pid_t clinux_spawn(const struct clinux_spawn *request, int *error, const char **step);
