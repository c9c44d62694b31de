/* SPDX-License-Identifier: Apache-2.0 */
/* Programs on interfaces: a pinned tcx link where the kernel has tcx (6.6), otherwise a clsact filter. */
#include "internal.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* enum bpf_attach_type and link flags of Linux 6.6, which older headers lack. */
#define TCX_INGRESS 46
#define TCX_EGRESS 47
#define TCX_BEFORE (1U << 3)

/* First of all filters, and a handle by which a later engine finds its own. */
#define FILTER_PRIORITY 1
#define FILTER_HANDLE 0x51

static int link_is_interface_ingress(uint32_t direction)
{
	return direction == DIRECTION_EGRESS;	/* what the endpoint sends enters the host's side of its veth */
}

static int tcx_create(int program, uint32_t ifindex, uint32_t direction)
{
	union bpf_attr attr;
	int link;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_ifindex = ifindex;
	attr.link_create.attach_type = link_is_interface_ingress(direction) ? TCX_INGRESS : TCX_EGRESS;
	attr.link_create.flags = TCX_BEFORE;
	link = (int)syscall(__NR_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
	return link < 0 ? -errno : link;
}

static int tcx_attach(int program, uint32_t ifindex, uint32_t direction, const char *pin_path)
{
	int error = pinned_link_update(pin_path, program);

	return error == -ENOENT ? pinned_link_create(pin_path, tcx_create(program, ifindex, direction)) : error;
}

static int clsact_attach(int program, uint32_t ifindex, uint32_t direction)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		    .attach_point = link_is_interface_ingress(direction) ? BPF_TC_INGRESS : BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY, .prog_fd = program,
		    .flags = BPF_TC_F_REPLACE);
	int error = bpf_tc_hook_create(&hook);

	if (error && error != -EEXIST)
		return error;
	return bpf_tc_attach(&hook, &options);
}

int sluice_link__attach(int program, uint32_t ifindex, uint32_t direction, const char *pin_path)
{
	int error = tcx_attach(program, ifindex, direction, pin_path);

	if (!error)
		return SLUICE_TCX;
	if (error != -EINVAL)
		return error;
	error = clsact_attach(program, ifindex, direction);
	return error ? error : SLUICE_CLSACT;
}

int link_attach_passing(int program, uint32_t ifindex, uint32_t direction)
{
	int result = tcx_create(program, ifindex, direction);

	if (result >= 0)
		return SLUICE_TCX;	/* the link is closed with the process, and not before */
	if (result != -EINVAL)
		return result;
	result = clsact_attach(program, ifindex, direction);
	return result ? result : SLUICE_CLSACT;
}

int sluice_link__detach(uint32_t ifindex, uint32_t direction, const char *pin_path)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		    .attach_point = link_is_interface_ingress(direction) ? BPF_TC_INGRESS : BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY);
	int error = pinned_link_detach(pin_path);

	if (error != -ENOENT)
		return error;
	error = bpf_tc_detach(&hook, &options);
	return error == -ENOENT || error == -EINVAL || error == -ENODEV ? 0 : error;
}
