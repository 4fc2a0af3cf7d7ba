/* What the package of the emulated processor needs beside itself: two functions of a newer C library that it was built
   against, and another processor than the one it was built for (EMULATED_CPU names a function of Bochs that makes it). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned long long __isoc23_strtoull(const char *text, char **end, int base) { return strtoull(text, end, base); }

int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int read = vsscanf(text, format, arguments);
    va_end(arguments);
    return read;
}

static int is_package(struct dl_phdr_info *info, size_t size, void *path) {
    (void)size;
    if (!strstr(info->dlpi_name, "_bochscpu.")) return 0;
    *(const char **)path = info->dlpi_name;
    return 1;
}

/* Stands before the package's own function of this name. */
void *_Z23create_corei3_cnl_cpuidP8BX_CPU_C(void *cpu) {
    const char *path = NULL;
    dl_iterate_phdr(is_package, &path);
    void *package = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    void *(*make)(void *) = package ? (void *(*)(void *))dlsym(package, getenv("EMULATED_CPU")) : NULL;
    if (!make) {
        fprintf(stderr, "emulator: there is no processor %s\n", getenv("EMULATED_CPU"));
        exit(70);
    }
    return make(cpu);
}
