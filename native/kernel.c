/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about the running kernel. */
#include "internal.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sys/vfs.h>
#include <time.h>

int sluice_kernel__is_bpffs(const char *directory)
{
	struct statfs status;

	if (statfs(directory, &status))
		return -errno;
	return status.f_type == BPF_FS_MAGIC;
}

int sluice_kernel__cpus(void)
{
	return libbpf_num_possible_cpus();
}

int sluice_kernel__ifindex(const char *interface)
{
	unsigned int ifindex = if_nametoindex(interface);

	return ifindex ? (int)ifindex : -errno;
}

int sluice_kernel__is_peered(uint32_t ifindex)
{
	return netlink_link_is_peered(ifindex);
}

uint64_t sluice_kernel__now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}
