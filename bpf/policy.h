/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* From an address to an identity, from an identity and a port to a rule: a fixed number of lookups. */
#ifndef SLUICE_POLICY_H
#define SLUICE_POLICY_H

#include "maps.h"
#include "packet.h"

#define ADDRESS_BITS 128

struct address {
	__u8 bytes[16];
};

/* Global, so that its key takes none of the caller's stack. */
__noinline __u32 identity_find(const struct address *address)
{
	struct network_key key = { .prefix_bits = ADDRESS_BITS };
	__u32 *identity;

	if (!address)
		return IDENTITY_WORLD;
	/* Looked up from this stack: before 6.5 a key may not stand in memory that a caller names. */
	__builtin_memcpy(key.address, address, 16);
	identity = bpf_map_lookup_elem(&peers, key.address);
	if (identity)
		return *identity;
	identity = bpf_map_lookup_elem(&networks, &key);
	return identity ? *identity : IDENTITY_WORLD;
}

/*
 * Finds the rule for a peer and a port, in host order: the ranges in the entry first, then the table, longest port prefix
 * first, of the lengths that it uses.
 *
 * Returns 0 when the rule set has no entry for anyone, which is one that is not there: closed.
 */
static __always_inline int policy_lookup(__u32 rule_set, __u32 identity, __u8 protocol, __u16 number, struct rule *found)
{
	struct policy_key key = { .rule_set = rule_set, .identity = identity };
	struct policy_entry *entry = bpf_map_lookup_elem(&policies, &key);
	struct port_key port = { .protocol = protocol };

	if (!entry) {
		key.identity = IDENTITY_ANY;
		entry = bpf_map_lookup_elem(&policies, &key);
	}
	if (!entry)
		return 0;
	*found = entry->other;
	for (int i = 0; i < ABI_PORTS_NEAR; i++) {
		const struct port_rule *near = &entry->near[i];

		if (near->protocol == protocol && near->first <= number && number <= near->last && protocol) {
			*found = near->rule;
			return 1;
		}
	}
	if (!entry->prefixes)
		return 1;

	port.port_table = entry->port_table;
	for (int bits = ABI_PORT_PREFIX_BITS; bits >= 0; bits--) {
		struct rule *rule;

		if (!(entry->prefixes & (1U << bits)))
			continue;
		port.prefix_bits = bits;
		port.port = number & ~((1U << (ABI_PORT_PREFIX_BITS - bits)) - 1);
		rule = bpf_map_lookup_elem(&ports, &port);
		if (rule) {
			*found = *rule;
			return 1;
		}
	}
	return 1;
}

/* The same as a global function, verified by itself (see packet_parse). */
__noinline int policy_find(__u32 rule_set, __u32 identity, __u8 protocol, __u16 number, struct rule *found)
{
	return found ? policy_lookup(rule_set, identity, protocol, number, found) : 0;
}

#endif
