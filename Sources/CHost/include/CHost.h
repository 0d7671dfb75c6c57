// What only C can say: libpci's error escape.
#pragma once

#include <stddef.h>
#include <stdint.h>

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
