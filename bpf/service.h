/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a pod under policy sends to a Service: it is given one of the backends that the Service has now, and judged by that one's
 * address. So policy says of a Service what it says of the pods behind it, whether kube-proxy is there or not.
 *
 * Which backend a connection has is noted under the Service's address (FLOW_PATH_SERVICE); the connection itself stands under the
 * backend's (FLOW_PATH_BACKEND). What the pod sends without policy is left to whoever else translates it.
 */
#ifndef SLUICE_SERVICE_H
#define SLUICE_SERVICE_H

#include "find.h"
#include "translate.h"

/* Of a set with more, a datagram's backend counts as gone when another one may have its place. */
#define MEMBERS_SOUGHT 1024

/* The search for a backend in a set, handed to the loop over it. */
struct search {
	struct backend_key key;		/* the family's bit in its index */
	struct translation backend;
	__u32 found;
};

static __always_inline int translation_equals(const struct translation *a, const struct translation *b)
{
	return a->port == b->port && address_equals(a->address, b->address);
}

/* Returns 1, which ends the loop, where the backend is this one. */
static long member_compare(__u32 index, struct search *search)
{
	struct backend_key key = { .set = search->key.set, .index = search->key.index | index };
	const struct translation *backend = bpf_map_lookup_elem(&backends, &key);

	if (!backend || !translation_equals(backend, &search->backend))
		return 0;
	search->found = 1;
	return 1;
}

/* How many backends of a packet's family a set has; leaves the family's bit of their indexes. */
static __always_inline __u32 backend_count(__u32 set, const struct packet *packet, __u32 *family)
{
	const struct backend_set *found = bpf_map_lookup_elem(&backend_sets, &set);

	*family = packet_is_ipv4(packet) ? 0 : BACKEND_INDEX_IPV6;
	if (!found)
		return 0;
	return packet_is_ipv4(packet) ? found->ipv4 : found->ipv6;
}

/* Whether a backend is in a set still. Global, as packet_parse. */
__noinline int backend_is_member(__u32 set, const struct packet *packet, const struct translation *backend)
{
	struct search search = { .key = { .set = set } };
	__u32 count;

	if (!packet || !backend)
		return 0;
	search.backend = *backend;
	count = backend_count(set, packet, &search.key.index);
	bpf_loop(count < MEMBERS_SOUGHT ? count : MEMBERS_SOUGHT, member_compare, &search, 0);
	return search.found;
}

/* The outcome of a choice. */
enum chosen {
	CHOSEN_NONE,		/* there is no backend */
	CHOSEN_BACKEND,
	CHOSEN_SELF,		/* the pod itself is the only one */
	CHOSEN_TAKEN,		/* those that were tried have a connection with this port, to another address of theirs */
};

/*
 * Whether the pod has a connection to the journey's backend from the port that its packet comes from, under another address than that of
 * the Service: answers to the one could not be told from those to the other. Global, as packet_parse.
 */
__noinline int backend_is_taken(struct journey *journey)
{
	struct policy_state *policy = policy_state();
	struct tracking tracking;
	int taken = 0;

	if (!journey || !policy)
		return 0;
	journey_give_backend(journey, &journey->backend);
	tracking_begin(&tracking, journey, policy, DIRECTION_EGRESS);
	connection_seek(&tracking, DIRECTION_EGRESS);
	if (tracking.connection && !(tracking.connection->flags & CONNECTION_CLOSING))
		taken = !(tracking.connection->path & FLOW_PATH_BACKEND) ||
			!translation_equals(&tracking.connection->other, &journey->judged.other);
	journey_take_backend(journey);
	return taken;
}

/* Chooses among the backends of a set, beginning where spread says. */
static __always_inline enum chosen backend_pick(struct journey *journey, __u32 spread)
{
	__u32 set = journey->judged.service, family, count = backend_count(set, &journey->packet, &family);
	struct backend_key key = { .set = set };
	enum chosen chosen = CHOSEN_NONE;

	for (__u32 i = 0; i < BACKENDS_TRIED && i < count; i++) {
		const struct translation *candidate;

		key.index = family | (spread + i) % count;
		candidate = bpf_map_lookup_elem(&backends, &key);
		if (!candidate)
			continue;
		journey->backend = *candidate;
		/* The pod itself would not believe its own address. */
		if (address_equals(journey->backend.address, journey->packet.source)) {
			if (chosen == CHOSEN_NONE)
				chosen = CHOSEN_SELF;
		} else if (backend_is_taken(journey)) {
			chosen = CHOSEN_TAKEN;
		} else {
			return CHOSEN_BACKEND;
		}
	}
	return chosen;
}

/* Chooses as the Service wants it for this client. */
static __always_inline enum chosen service_choose(struct journey *journey, const struct policy_state *policy, const struct service *service)
{
	struct affinity_key key = { .set = service->set, .endpoint = journey->endpoint, .ipv6 = !packet_is_ipv4(&journey->packet) };
	struct affinity *known = NULL, fresh = {};
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	enum chosen chosen;

	if (service->affinity_s)
		known = bpf_map_lookup_elem(&affinities, &key);
	if (known && known->expires_ns > now_ns) {
		journey->backend = known->backend;
		if (backend_is_member(service->set, &journey->packet, &journey->backend) && !backend_is_taken(journey)) {
			known->expires_ns = now_ns + service->affinity_s * SECOND_NS;
			return CHOSEN_BACKEND;
		}
	}
	chosen = backend_pick(journey, packet_spread(&journey->packet, service->set ^ policy->hash_seed));
	if (service->affinity_s && chosen == CHOSEN_BACKEND) {
		fresh.expires_ns = now_ns + service->affinity_s * SECOND_NS;
		fresh.backend = journey->backend;
		bpf_map_update_elem(&affinities, &key, &fresh, BPF_ANY);
	}
	return chosen;
}

/* The end of what there is no backend for. */
static __always_inline int service_refuse(struct __sk_buff *skb, struct journey *journey, enum reason reason)
{
	journey_deny(journey, reason, 0);
	journey->ask.rule = 0;
	journey->ask.service = journey->judged.service;
	/* Somebody may be there when it comes again. */
	if (reason == REASON_DROP_NO_BACKEND)
		enter_refuse(skb);
	return deny(skb, &journey->ask, reason);
}

/* The first packet to a Service. */
SEC("tc")
int choose_backend(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_POD);
	struct policy_state *policy = policy_state();
	const struct service *service;
	const struct packet *packet;

	if (!journey || !policy)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	packet = &journey->packet;
	service = service_find(packet->destination, packet->destination_port, packet->protocol);
	if (!service)	/* gone meanwhile */
		return service_refuse(skb, journey, REASON_DROP_NO_BACKEND);
	journey->judged.service = service->set;
	switch (service_choose(journey, policy, service)) {
	case CHOSEN_BACKEND:
		enter_to_backend(skb);
		return deny(skb, &journey->ask, REASON_FAIL_STAGE);
	case CHOSEN_SELF:
		/* No policy is about it, and nobody who translates can choose another one. */
		journey_track(skb, journey, policy, 0);
		return pass(skb, REASON_PASS_SELF);
	case CHOSEN_TAKEN:
		return service_refuse(skb, journey, REASON_DROP_PORT_TAKEN);
	default:
		return service_refuse(skb, journey, REASON_DROP_NO_BACKEND);
	}
}

/*
 * Finds the backend that a connection has. What is no stream may have another one when its own is gone: then there is none, and the packet
 * is like the first. Returns 0 then. Global, as packet_parse.
 */
__noinline int backend_follow(struct __sk_buff *skb, struct journey *journey)
{
	struct policy_state *policy = policy_state();
	struct connection *connection;
	struct tracking tracking;

	if (!journey || !policy)
		return 0;
	journey->backend = journey->judged.other;
	tracking_resume(&tracking, journey, policy);
	connection = tracking.connection;
	if (!connection)	/* it has left its map meanwhile */
		return 0;
	if (journey->packet.protocol != IPPROTO_TCP && connection->revision != policy->revision) {
		if (!backend_is_member(journey->judged.service, &journey->packet, &journey->backend))
			return 0;
		connection->revision = policy->revision;
	}
	connection_touch(skb, &tracking, DIRECTION_EGRESS);
	return 1;
}

/* Begins anew with a packet whose connection has no backend any more. */
static __always_inline void journey_lose_backend(struct journey *journey)
{
	journey->signposted = 0;
	journey->found = FOUND_NOTHING;
	journey->judged.path = 0;
	journey->judged.service = 0;
}

/* Looks for the connection under the backend's address. */
static __always_inline enum standing backend_stands(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy)
{
	struct judged *judged = &journey->judged;
	struct translation service;
	enum standing standing;
	__u32 set;

	journey_give_backend(journey, &journey->backend);
	service = judged->other;
	set = judged->service;
	standing = connection_stands(skb, journey, policy, HOOK_FROM_POD);
	judged->path |= FLOW_PATH_BACKEND;
	judged->other = service;
	judged->service = set;
	return standing;
}

/* A packet to a Service whose connection has a backend: as that stands, or to be judged by the backend's address. */
SEC("tc")
int to_backend(struct __sk_buff *skb)
{
	struct journey *journey = journey_resume(skb, HOOK_FROM_POD);
	struct policy_state *policy = policy_state();

	if (!journey || !policy)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	if (journey->signposted && !backend_follow(skb, journey))
		journey_lose_backend(journey);
	else if (backend_stands(skb, journey, policy) == STANDS)
		return packet_leave(skb, journey, HOOK_FROM_POD, LEAVE_UNREAD);
	enter_judge_from_pod(skb);
	return packet_drop(skb, journey, DIRECTION_EGRESS, REASON_FAIL_STAGE);
}

#endif
