/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Rules about domain names: an address that the endpoint knows by a name is judged by the rules for that name too.
 *
 * Every name belongs to its closest pattern among all that policy has; what a rule set says about a pattern stands in a rule
 * set of its own, in which rules about names that match apply to anyone, and those about others to nobody.
 */
#ifndef SLUICE_DNS_NAMES_H
#define SLUICE_DNS_NAMES_H

#include "policy.h"

/* Of the word that is a struct known_pattern. */
#define KNOWN_PATTERN_SHIFT 32

static __always_inline __u64 known_word(const struct known_address *known, __u32 index)
{
	return *(volatile const __u64 *)&known->patterns[index];
}

static __always_inline __u32 now_s(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000ULL;
}

/* Of two rules about one address: a question to a plugin counts before an allow, since a plugin narrows what rules allow; that before a deny. */
static __always_inline int action_outweighs(__u8 action, __u8 other)
{
	return (action == ACTION_ASK && other != ACTION_ASK) || (action == ACTION_ALLOW && other == ACTION_DENY);
}

/* The rule set's answer about a port under names, packed for a function that takes five arguments. */
#define NAMED_PROTOCOL_SHIFT 16
#define NAMED_TRACKED_SHIFT 24

/*
 * Replaces found with what the rules for the names of a known address say, where that outweighs it. A connection that is tracked
 * already goes on under names whose time is over. Global, as policy_find.
 *
 * Returns 1 when it did.
 */
__noinline int names_find(const struct known_address *known, __u32 rule_set, __u32 identity, __u32 asked, struct rule *found)
{
	__u32 now = now_s();
	int replaced = 0;

	if (!known || !found)
		return 0;
	for (int i = 0; i < ABI_ADDRESS_PATTERNS; i++) {
		__u64 word = known_word(known, i);
		struct named_key named = { .rule_set = rule_set, .pattern = word >> KNOWN_PATTERN_SHIFT };
		struct rule rule;
		__u32 *set;

		if (!word || ((__u32)word <= now && !(asked >> NAMED_TRACKED_SHIFT)))
			continue;
		set = bpf_map_lookup_elem(&named_rule_sets, &named);
		if (!set || !policy_lookup(*set, identity, asked >> NAMED_PROTOCOL_SHIFT, asked, &rule) ||
		    !action_outweighs(rule.action, found->action))
			continue;
		*found = rule;
		replaced = 1;
	}
	return replaced;
}

static __always_inline struct known_address *known_find(__u32 endpoint, const __u8 *address)
{
	struct known_key key = { .endpoint = endpoint };

	__builtin_memcpy(key.address, address, 16);
	return bpf_map_lookup_elem(&known_addresses, &key);
}

/* Hash of the name by which an endpoint knows an address, or 0. */
static __always_inline __u64 name_find(__u32 endpoint, const __u8 *address)
{
	struct known_address *known = known_find(endpoint, address);

	return known ? known->name : 0;
}

#endif
