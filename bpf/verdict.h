/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Verdicts of plugins from before: the verdict cache, one lookup for each scope that the plugin's verdicts have used. */
#ifndef SLUICE_VERDICT_H
#define SLUICE_VERDICT_H

#include "journey.h"
#include "plugin.h"

static __always_inline void verdict_key_fill(struct verdict_key *key, const struct ask *ask, enum scope scope)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->scope = scope;
	key->plugin = ask->plugin;
	key->protocol = ask->protocol;
	key->direction = ask->direction;
	key->context = ask->context;
	key->destination_port = ask->destination_port;
	if (scope == SCOPE_IDENTITY) {
		key->source_identity = ask->source_identity;
		key->destination_identity = ask->destination_identity;
		return;
	}
	__builtin_memcpy(key->source, ask->source, 16);
	__builtin_memcpy(key->destination, ask->destination, 16);
	if (scope == SCOPE_FLOW)
		key->source_port = ask->source_port;
}

/* The next wider scope, or none. */
static __always_inline enum scope scope_wider(enum scope scope)
{
	if (scope == SCOPE_FLOW)
		return SCOPE_ADDRESS;
	return scope == SCOPE_ADDRESS ? SCOPE_IDENTITY : SCOPE_NONE;
}

static __always_inline void verdict_hit_count(__u32 plugin, __u32 bytes)
{
	struct counter *hits = bpf_map_lookup_elem(&verdict_hits, &plugin);

	if (hits) {
		hits->packets += 1;
		hits->bytes += bytes;
	}
}

/*
 * Finds what the plugin decided for a flow, narrowest scope first.
 *
 * Returns VERDICT_NEXT when there is no decision or it is stale, never one from an older version of the plugin.
 * VERDICT_ROUTE leaves the backend set in the journey. A verdict for one connection is taken from the cache here: the caller tracks
 * that connection.
 */
static __always_inline enum verdict verdict_find(struct journey *journey, const struct plugin_state *plugin, __u64 now_ns,
						 __u32 bytes)
{
	const struct ask *ask = &journey->ask;
	struct verdict_key key;

	for (enum scope scope = SCOPE_FLOW; scope != SCOPE_NONE; scope = scope_wider(scope)) {
		struct verdict_entry *found;
		__u8 verdict;

		if (!(plugin->scopes & scope))
			continue;
		verdict_key_fill(&key, ask, scope);
		found = bpf_map_lookup_elem(&verdicts, &key);
		if (!found || found->epoch != plugin->epoch || found->expires_ns <= now_ns)
			continue;
		verdict = found->verdict;
		journey->backend_set = found->backend_set;
		/* A verdict for one connection was just made: finding it is no hit. */
		if (found->once)
			bpf_map_delete_elem(&verdicts, &key);
		else
			verdict_hit_count(ask->plugin, bytes);
		return verdict;
	}
	return VERDICT_NEXT;
}

#endif
