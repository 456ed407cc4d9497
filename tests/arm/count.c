// A plugin of QEMU's user emulation (versions 5 to 8) that counts the instructions which an emulated program executes,
// by function. Declared here is what it takes of qemu-plugin.h, which distributions do not ship.

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;

extern void qemu_plugin_register_vcpu_tb_trans_cb(
    uint64_t id, void (*translated)(uint64_t id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *, void (*executed)(unsigned cpu, void *data), int flags, void *data);
extern void qemu_plugin_register_atexit_cb(uint64_t id, void (*ended)(uint64_t id, void *data), void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t index);
extern const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

struct function {
    struct function *next;
    const char *name;
    uint64_t instructions;
};

// A run of instructions that is entered at its first and left after its last.
struct block {
    struct function *function;
    uint64_t instructions;
};

static struct function *functions;

static struct function *named(const char *name) {
    struct function *function;
    for (function = functions; function; function = function->next)
        if (strcmp(function->name, name) == 0) return function;
    if (!(function = malloc(sizeof *function))) abort();
    *function = (struct function){functions, strdup(name), 0};
    return functions = function;
}

// Without a lock: threads that execute at once would lose counts, so programs are to be run with one.
static void executed(unsigned cpu, void *data) {
    struct block *block = data;
    block->function->instructions += block->instructions;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb) {
    struct block *block = malloc(sizeof *block);
    const char *name = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(tb, 0));
    if (!block) abort();
    *block = (struct block){named(name ? name : "?"), qemu_plugin_tb_n_insns(tb)};
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, block);
}

// A line for each function on standard error: the count, and the symbol.
static void ended(uint64_t id, void *data) {
    for (struct function *function = functions; function; function = function->next)
        fprintf(stderr, "%llu %s\n", (unsigned long long)function->instructions, function->name);
}

__attribute__((visibility("default"))) int qemu_plugin_install(
    uint64_t id, const void *info, int count, char **arguments) {
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
