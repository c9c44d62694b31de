/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes to a program's instructions before it is loaded, where a test-run lacks something: a process's endpoint is read from an
 * array in place of its cgroup's storage, and what a packet's redirection says is noted before the kernel is told.
 */
#ifndef DIFFERENTIAL_PATCH_H
#define DIFFERENTIAL_PATCH_H

#include <linux/types.h>

/* The last redirection; function 0: there was none. */
struct redirect {
	__u32 function;		/* enum bpf_func_id */
	__u32 ifindex;
	__u64 flags;
};

/* Once, before an object is opened. */
void patch_begin(void);
/* Has programs that are loaded from now on use these arrays of one entry: an endpoint's id, and struct redirect. */
void patch_with(int process_map, int redirect_map);

#endif
