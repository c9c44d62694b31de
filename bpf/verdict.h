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

static __always_inline void verdict_hit_count(__u32 plugin, __u32 bytes)
{
	struct counter *hits = bpf_map_lookup_elem(&verdict_hits, &plugin);

	if (hits) {
		hits->packets += 1;
		hits->bytes += bytes;
	}
}

/* Finds what the plugin decided for flows of one scope, as verdict_find does. */
static __always_inline enum verdict verdict_find_within(struct journey *journey, const struct plugin_state *plugin, __u64 now_ns,
							__u32 bytes, enum scope scope)
{
	const struct ask *ask = &journey->ask;
	struct verdict_entry *found;
	struct verdict_key key;
	__u8 verdict;

	if (!(plugin->scopes & scope))
		return VERDICT_NEXT;
	verdict_key_fill(&key, ask, scope);
	found = bpf_map_lookup_elem(&verdicts, &key);
	if (!found || found->epoch != plugin->epoch || found->expires_ns <= now_ns)
		return VERDICT_NEXT;
	verdict = found->verdict;
	journey->backend_set = found->backend_set;
	/* A verdict for one connection was just made: finding it is no hit. */
	if (found->once)
		bpf_map_delete_elem(&verdicts, &key);
	else
		verdict_hit_count(ask->plugin, bytes);
	return verdict;
}

/*
 * Finds what the plugin decided for a flow, narrowest scope first. No loop: Linux 6.1 refuses one whose head follows a call.
 *
 * Returns VERDICT_NEXT when there is no decision or it is stale, never one from an older version of the plugin.
 * VERDICT_ROUTE leaves the backend set in the journey. A verdict for one connection is taken from the cache here: the caller tracks
 * that connection.
 */
static __always_inline enum verdict verdict_find(struct journey *journey, const struct plugin_state *plugin, __u64 now_ns,
						 __u32 bytes)
{
	enum verdict verdict = verdict_find_within(journey, plugin, now_ns, bytes, SCOPE_FLOW);

	if (verdict == VERDICT_NEXT)
		verdict = verdict_find_within(journey, plugin, now_ns, bytes, SCOPE_ADDRESS);
	if (verdict == VERDICT_NEXT)
		verdict = verdict_find_within(journey, plugin, now_ns, bytes, SCOPE_IDENTITY);
	return verdict;
}

#endif
