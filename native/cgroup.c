/* SPDX-License-Identifier: Apache-2.0 */
/* Programs on cgroups: pinned links, so that they stay when the engine goes. */
#include "internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <unistd.h>

/* Returns the attach type that the program was loaded for, or -errno. */
static int program_attach_type(int program)
{
	static const struct {
		const char *name;
		enum bpf_attach_type type;
	} types[] = {
		{ "from_process", BPF_CGROUP_INET_EGRESS },
		{ "to_process", BPF_CGROUP_INET_INGRESS },
		{ "connect4", BPF_CGROUP_INET4_CONNECT },
		{ "connect6", BPF_CGROUP_INET6_CONNECT },
		{ "sendmsg4", BPF_CGROUP_UDP4_SENDMSG },
		{ "sendmsg6", BPF_CGROUP_UDP6_SENDMSG },
		{ "getpeername4", BPF_CGROUP_INET4_GETPEERNAME },
		{ "getpeername6", BPF_CGROUP_INET6_GETPEERNAME },
	};
	struct bpf_prog_info info = {};
	uint32_t size = sizeof(info);
	int error = bpf_obj_get_info_by_fd(program, &info, &size);

	if (error)
		return error;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (!strcmp(info.name, types[i].name))
			return types[i].type;
	return -EINVAL;
}

int sluice_cgroup__attach(int program, const char *cgroup_path, const char *pin_path)
{
	int type = program_attach_type(program), cgroup, error;

	if (type < 0)
		return type;
	error = pinned_link_update(pin_path, program);
	if (error != -ENOENT)
		return error;
	cgroup = open(cgroup_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		return -errno;
	error = pinned_link_create(pin_path, bpf_link_create(program, cgroup, (enum bpf_attach_type)type, NULL));
	close(cgroup);
	return error;
}

int sluice_cgroup__detach(const char *pin_path)
{
	int error = pinned_link_detach(pin_path);

	return error == -ENOENT ? 0 : error;
}
