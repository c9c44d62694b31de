/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The stage for connections to a Service whose backend somebody else has chosen, before policy was about the pod: kube-proxy, on this
 * node or another one. Nobody here knows which it is, so policy must allow every one that it may be.
 */
#ifndef SLUICE_STRAYS_H
#define SLUICE_STRAYS_H

#include "backends.h"
#include "describe.h"

/* Of a set with more backends nobody looks at all: such a connection is not allowed. */
#define STRAY_BACKENDS 256

/* The question about all backends of a set, handed to the loop over them. */
struct stray {
	struct journey *journey;	/* whose judgement and backend are free for each of them */
	const struct endpoint *endpoint;
	struct backend_key key;		/* the family's bit in its index */
	__u32 denied;
};

/* Asks whether policy allows one. Returns 1 to end the loop. */
static long stray_judge(__u32 index, struct stray *stray)
{
	struct backend_key key = { .set = stray->key.set, .index = stray->key.index | index };
	const struct translation *found = bpf_map_lookup_elem(&backends, &key);
	const struct endpoint *endpoint = stray->endpoint;
	struct journey *journey = stray->journey;
	struct flow flow;

	if (!found || !endpoint || !journey)
		return 0;
	/* No policy is about an endpoint with itself. */
	if (address_equals(found->address, endpoint->ipv4) || address_equals(found->address, endpoint->ipv6))
		return 0;
	journey->backend = *found;
	flow_to(&flow, journey->endpoint, journey->backend.address, journey->backend.port, journey->packet.protocol);
	flow.tracked = 1;
	endpoint_judge(endpoint, &flow, &journey->judgement);
	if (journey->judgement.rule.action == ACTION_ALLOW)
		return 0;
	stray->denied = 1;
	return 1;
}

/* Whether policy lets the endpoint of a journey talk to every backend of a set that its packet's family has. Global, as packet_parse. */
__noinline int backends_allowed(struct journey *journey, __u32 set)
{
	struct backend_set *found = bpf_map_lookup_elem(&backend_sets, &set);
	struct stray stray = { .journey = journey, .key = { .set = set } };
	__u32 count, id;

	if (!journey || !found)
		return 0;
	id = journey->endpoint;
	stray.endpoint = bpf_map_lookup_elem(&endpoints, &id);
	stray.key.index = packet_is_ipv4(&journey->packet) ? 0 : BACKEND_INDEX_IPV6;
	count = packet_is_ipv4(&journey->packet) ? found->ipv4 : found->ipv6;
	if (!stray.endpoint || count > STRAY_BACKENDS)
		return 0;
	bpf_loop(count, stray_judge, &stray, 0);
	return !stray.denied;
}

/* Asks, and goes back to be judged. A datagram that is not allowed so needs no backend of before: it is given one. */
static __always_inline int stray_stage(struct __sk_buff *skb, const enum hook hook)
{
	struct journey *journey = journey_resume(skb, hook);

	if (!journey)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	if (backends_allowed(journey, journey->judged.service)) {
		journey->stray = 1;
		enter_judge(skb, hook);
		return deny(skb, &journey->ask, REASON_FAIL_STAGE);
	}
	if (hook == HOOK_FROM_POD && journey->packet.protocol != IPPROTO_TCP) {
		enter_choose_backend(skb);
		return deny(skb, &journey->ask, REASON_FAIL_STAGE);
	}
	return deny(skb, &journey->ask, REASON_DROP_NOT_TRANSLATED);
}

SEC("tc")
int stray_from_pod(struct __sk_buff *skb)
{
	return stray_stage(skb, HOOK_FROM_POD);
}

SEC("tc")
int stray_to_pod(struct __sk_buff *skb)
{
	return stray_stage(skb, HOOK_TO_POD);
}

#endif
