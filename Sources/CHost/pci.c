#include "CHost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <pci/pci.h>

// libpci ends the process on any file it can't parse, unless its error callback never returns. The callback is
// variadic, which Swift can't define, and the jump must not cross Swift frames: so the whole scan is here.
static jmp_buf escape;
static char last_error[256];

static void failed(char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    longjmp(escape, 1);
}

static void ignored(char *format, ...) { (void)format; }

int chost_pci_scan(const char *sysfs_path, struct chost_pci_function *functions, char *names, int capacity,
                   char *message, size_t message_size) {
    struct pci_access *volatile access = pci_alloc();
    volatile int count = 0;
    if (setjmp(escape) != 0) {
        snprintf(message, message_size, "%s", last_error);
        pci_cleanup(access);
        return -1;
    }
    access->method = PCI_ACCESS_SYS_BUS_PCI;
    access->error = (void *)failed;
    access->warning = ignored;
    pci_set_param(access, "sysfs.path", (char *)sysfs_path);
    pci_init(access);
    pci_scan_bus(access);
    for (struct pci_dev *device = access->devices; device != NULL; device = device->next) {
        // No more than these: PCI_FILL_IRQ would make the `irq` file mandatory.
        pci_fill_info(device, PCI_FILL_IDENT | PCI_FILL_CLASS);
        if (count < capacity) {
            struct chost_pci_function *f = &functions[count];
            f->domain = (uint32_t)device->domain;
            f->bus = device->bus;
            f->device = device->dev;
            f->function = device->func;
            f->vendor_id = device->vendor_id;
            f->device_id = device->device_id;
            f->class_id = device->device_class;
            pci_lookup_name(access, names + count * chost_pci_name_size, chost_pci_name_size,
                            PCI_LOOKUP_VENDOR | PCI_LOOKUP_DEVICE, device->vendor_id, device->device_id);
        }
        count++;
    }
    pci_cleanup(access);
    return count;
}
