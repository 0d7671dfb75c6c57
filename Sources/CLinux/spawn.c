#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { most_descriptors = 64 };

static int limit(__rlimit_resource_t resource, uint64_t value) {
    struct rlimit both = {value, value};
    return value == 0 ? 0 : setrlimit(resource, &both);
}

// Gives it device files that are its user's own, in place of those that are there. A file system of its own, since those
// that are there may have no devices; it goes with its name.
static int replace_devices(const struct clinux_spawn *r) {
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return -1;
    if (mount("none", r->device_folder, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k") < 0) return -1;
    for (int i = 0; i < r->device_count; i++) {
        struct stat there;
        if (stat(r->devices[i], &there) < 0) return -1;
        if (mknod(r->device_places[i], S_IFCHR | 0600, there.st_rdev) < 0) return -1;
        if (chown(r->device_places[i], r->uid, r->gid) < 0) return -1;
        if (mount(r->device_places[i], r->devices[i], NULL, MS_BIND, NULL) < 0) return -1;
    }
    return umount2(r->device_folder, MNT_DETACH);
}

static int set_capabilities(uint32_t mask) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct both[_LINUX_CAPABILITY_U32S_3] = {{mask, mask, mask}};
    return (int)syscall(SYS_capset, &header, both);
}

// Runs between vfork and exec, in the parent's memory: system calls and the stack only.
static const char *become(const struct clinux_spawn *r, pid_t parent) {
    int moved[most_descriptors];
    // First out of the way of 0…n-1, so that no source is overwritten before it is used.
    for (int i = 0; i < r->descriptor_count; i++) {
        moved[i] = r->descriptors[i] < 0 ? -1 : fcntl(r->descriptors[i], F_DUPFD_CLOEXEC, most_descriptors);
        if (r->descriptors[i] >= 0 && moved[i] < 0) return "duplicate a descriptor";
    }
    for (int i = 0; i < r->descriptor_count; i++) {
        if (moved[i] < 0) close(i);
        else if (dup2(moved[i], i) < 0) return "place a descriptor";
    }
    if (syscall(SYS_close_range, r->descriptor_count, ~0U, 0) < 0) return "close descriptors";
    if (r->own_session && setsid() < 0) return "start a session";
    if (r->controlling_terminal && ioctl(0, TIOCSCTTY, 0) < 0) return "take the terminal";
    if (r->cpu_count > 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        for (int i = 0; i < r->cpu_count; i++) CPU_SET(r->cpus[i], &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0) return "choose its processors";
    }
    if (limit(RLIMIT_AS, r->address_space) < 0 || limit(RLIMIT_CPU, r->cpu_seconds) < 0) return "set limits";
    if (limit(RLIMIT_MEMLOCK, r->locked_memory) < 0) return "let it keep memory in place";
    if (r->device_count > 0 && replace_devices(r) < 0) return "give it devices of its own";
    // What is not in this set nothing that it executes can get back.
    for (int right = 0; r->drop_rights && right <= CAP_LAST_CAP; right++)
        if (!(r->may_bind && right == CAP_NET_BIND_SERVICE)) prctl(PR_CAPBSET_DROP, right, 0, 0, 0);
    if (r->may_bind && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return "keep a right";
    if (r->change_user) {
        if (setgroups(r->group_count, r->groups) < 0) return "set groups";
        if (setresgid(r->gid, r->gid, r->gid) < 0) return "set the group";
        if (setresuid(r->uid, r->uid, r->uid) < 0) return "set the user";
    }
    // No program started from here can gain rights, whatever it executes.
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return "give up new rights";
    if (r->drop_rights) {
        if (set_capabilities(r->may_bind ? 1 << CAP_NET_BIND_SERVICE : 0) < 0) return "give up its rights";
        if (r->may_bind && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) < 0)
            return "keep a right";
    }
    // After the change of user, which clears it.
    if (r->death_signal != 0) {
        if (prctl(PR_SET_PDEATHSIG, r->death_signal) < 0) return "set the death signal";
        if (getppid() != parent) _exit(127);
    }
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(SIGPIPE, &plain, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(r->path, r->argv, r->envp);
    return "execute";
}

pid_t clinux_spawn(const struct clinux_spawn *request, int *error, const char **step) {
    *error = 0;
    *step = "";
    if (request->descriptor_count > most_descriptors) {
        *error = EMFILE;
        *step = "pass descriptors";
        return -1;
    }
    pid_t parent = getpid();
    volatile int failure = 0;
    const char *volatile failed_step = "";
    pid_t pid = vfork();
    if (pid == 0) {
        const char *what = become(request, parent);
        failure = errno;
        failed_step = what;
        _exit(127);
    }
    if (pid < 0) {
        *error = errno;
        *step = "fork";
        return -1;
    }
    if (failure != 0) {
        *error = failure;
        *step = failed_step;
        // The child is gone already; only its entry is left to collect.
        while (syscall(SYS_wait4, pid, NULL, 0, NULL) < 0 && errno == EINTR) {}
        return -1;
    }
    return pid;
}
