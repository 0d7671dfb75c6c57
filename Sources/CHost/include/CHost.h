// What only C can say: a child made ready between fork and exec, and libpci's error escape.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct chost_spawn {
    const char *path;
    char *const *argv;
    char *const *envp;
    const int *descriptors;  // descriptors[i] becomes the child's descriptor i; the child has no others
    int descriptor_count;
    bool own_session;           // so that signals to the launcher's terminal or group don't reach it
    bool controlling_terminal;  // descriptor 0 is the session's terminal
    int death_signal;           // sent when the parent dies; 0 for none
    bool drop_rights;  // no capability is left, whoever it runs as
    bool change_user;
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    int group_count;
    const int *cpus;  // the processors that it may use; none for all
    int cpu_count;
    uint64_t address_space;  // bytes; 0 for no limit
    uint64_t cpu_seconds;    // 0 for no limit
};

/// The child's pid, or -1 with *error set to an errno and *step to the name of what failed.
pid_t chost_spawn(const struct chost_spawn *request, int *error, const char **step);

struct chost_pci_function {
    uint32_t domain;
    uint8_t bus, device, function;
    uint16_t vendor_id, device_id, class_id;
};

enum { chost_pci_name_size = 128 };

/// Fills at most `capacity` functions found below `sysfs_path`, and their names, one every chost_pci_name_size bytes;
/// returns how many there are, or -1 with `message` set.
int chost_pci_scan(const char *sysfs_path, struct chost_pci_function *functions, char *names, int capacity,
                   char *message, size_t message_size);
