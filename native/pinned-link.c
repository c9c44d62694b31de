/* SPDX-License-Identifier: Apache-2.0 */
/* Links that live in the BPF file system, so that they stay when the engine goes. */
#include "internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <unistd.h>

int pinned_link_update(const char *pin_path, int program)
{
	int link = bpf_obj_get(pin_path), error;

	if (link < 0)
		return link;
	error = bpf_link_update(link, program, NULL);
	close(link);
	if (error != -ENOLINK)
		return error;
	/* The interface or cgroup of this link is gone; its number has a new bearer. */
	return unlink(pin_path) ? -errno : -ENOENT;
}

int pinned_link_create(const char *pin_path, int link)
{
	int error;

	if (link < 0)
		return link;
	error = bpf_obj_pin(link, pin_path);
	close(link);
	return error;
}

int pinned_link_detach(const char *pin_path)
{
	int link = bpf_obj_get(pin_path), error;

	if (link < 0)
		return link;
	/* Without this, the program runs on until the kernel comes round to freeing the link. */
	error = bpf_link_detach(link);
	close(link);
	if (error && error != -ENOLINK)
		return error;
	return unlink(pin_path) && errno != ENOENT ? -errno : 0;
}
