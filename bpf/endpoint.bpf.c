/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Everything that is loaded: the programs of the chain, those that stand beside it, and explain. Which are stages, and which follow
 * which, says stages.h.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"
#include "stages.gen.h"
#include "cgroup.h"
#include "explain.h"

char LICENSE[] SEC("license") = "GPL";
