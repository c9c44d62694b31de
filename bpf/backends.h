/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Which backend of a set a connection goes to, where the kernel chooses. */
#ifndef SLUICE_BACKENDS_H
#define SLUICE_BACKENDS_H

#include "journey.h"

/* A backend that policy denies to this endpoint is passed over; of a set so many are tried. */
#define BACKENDS_TRIED 4

static __always_inline void translation_fill(struct translation *translation, const __u8 *address, __be16 port)
{
	__builtin_memset(translation, 0, sizeof(*translation));
	__builtin_memcpy(translation->address, address, 16);
	translation->port = port;
}

/* The Service that an address, port and protocol lead to by themselves. */
static __always_inline const struct service *service_at(const __u8 *address, __be16 port, __u8 protocol)
{
	struct service_key key = { .port = port, .protocol = protocol };

	__builtin_memcpy(key.address, address, 16);
	return bpf_map_lookup_elem(&services, &key);
}

/* The same, also where the address is a node's and the port one at which every node leads to a Service. */
static __always_inline const struct service *service_find(const __u8 *address, __be16 port, __u8 protocol)
{
	const __u8 every_node[16] = {};
	const struct service *found = service_at(address, port, protocol);

	if (found)
		return found;
	found = service_at(every_node, port, protocol);
	return found && service_at(address, SERVICE_PORT_NODE, 0) ? found : NULL;
}

/*
 * Leaves in the journey the set for what nobody decides about; 0 where that has nobody. Returns whether there is one: where not, a
 * connection goes where it was sent.
 */
static __always_inline int backend_default(struct journey *journey)
{
	const struct ask *ask = &journey->ask;
	const struct service *service;
	__u32 rule = ask->rule, *set = bpf_map_lookup_elem(&rule_backends, &rule);

	if (!set)
		return 0;
	journey->backend_set = *set;
	if (*set == BACKEND_SET_SERVICE) {
		service = service_at(ask->destination, ask->destination_port, ask->protocol);
		journey->backend_set = service ? service->set : 0;
	}
	return 1;
}

/*
 * Whether the plugin that a rule asks about every request is the one that the flow is tagged for: its verdicts hold for both rules. Lists
 * of routes share one id, and may say anything.
 */
static __always_inline int rule_asks_alike(const struct rule *rule, const struct ask *ask)
{
	return rule->id == ask->rule || (rule->plugin == ask->plugin && rule->plugin != ABI_ROUTES);
}

/*
 * Whether policy lets the endpoint open a connection to a backend. Where requests to it are decided, they are by now if the rule asks
 * the same; of another one nobody has asked the plugin.
 */
static __always_inline int backend_is_allowed(const struct endpoint *endpoint, const struct ask *ask, const struct translation *backend)
{
	struct judgement judgement = {};
	struct flow flow;

	flow_to(&flow, ask->endpoint, backend->address, backend->port, IPPROTO_TCP);
	endpoint_judge(endpoint, &flow, &judgement);
	return judgement.rule.action == ACTION_ALLOW ||
	       (judgement.rule.action == ACTION_ASK && judgement.rule.context == CONTEXT_HTTP && rule_asks_alike(&judgement.rule, ask));
}

/* Finds a backend of the journey's set that policy does not deny to its endpoint; spread says where to begin. Returns whether there is one. */
static __always_inline int backend_choose(struct translation *backend, const struct journey *journey, __u32 spread)
{
	__u32 id = journey->endpoint, set = journey->backend_set;
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &id);
	struct backend_set *found = bpf_map_lookup_elem(&backend_sets, &set);
	/* A process may have no address of its own. */
	__u32 count, family = address_is_ipv4(journey->packet.destination) ? 0 : BACKEND_INDEX_IPV6;
	struct backend_key key = { .set = set };

	if (!endpoint || !found)
		return 0;
	count = family ? found->ipv6 : found->ipv4;
	for (__u32 i = 0; i < BACKENDS_TRIED && i < count; i++) {
		struct translation *candidate;

		key.index = family | (spread + i) % count;
		candidate = bpf_map_lookup_elem(&backends, &key);
		/* The pod itself would not believe its own address. */
		if (!candidate || address_equals(candidate->address, journey->packet.source))
			continue;
		*backend = *candidate;
		if (backend_is_allowed(endpoint, &journey->ask, backend))
			return 1;
	}
	return 0;
}

#endif
