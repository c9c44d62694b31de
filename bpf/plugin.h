/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* How a plugin is: whether it answers, in which version, and what holds where it does not. */
#ifndef SLUICE_PLUGIN_H
#define SLUICE_PLUGIN_H

#include "maps.h"

static __always_inline struct plugin_state *plugin_find(__u32 plugin)
{
	return bpf_map_lookup_elem(&plugins, &plugin);
}

/* Whether it can be asked; NULL cannot. */
static __always_inline int plugin_is_on(const struct plugin_state *plugin)
{
	return plugin && plugin->status == PLUGIN_ON;
}

#endif
