/* SPDX-License-Identifier: Apache-2.0 */
/* A policy at random: endpoints, identities, rule sets, plugins and backends, the same for both objects. */
#ifndef DIFFERENTIAL_WORLD_H
#define DIFFERENTIAL_WORLD_H

#include "frame.h"
#include "side.h"

#define PODS 3
#define PROCESSES 2
#define ENDPOINTS (PODS + PROCESSES)
#define TOKEN 0x51000000u

struct home {
	uint32_t id;		/* interface or cgroup */
	struct address addresses[2];	/* IPv4, IPv6 */
	uint32_t identity;
};

struct world {
	struct side *sides;
	struct random *random;
	struct home homes[ENDPOINTS];
	uint32_t proxy;		/* its interface */
	struct policy_state policy;
	struct engine_state engine;
	struct plugin_state plugins[ABI_PLUGINS_MAX];
};

/* Addresses that endpoints talk to: pods, resolvers, Services, the node, the rest of the world. */
struct address world_address(struct random *random, int v4);
extern const uint16_t world_ports[];
extern const uint32_t world_port_count;

/* interfaces: of the pods, then the proxy's. */
void world_make(struct world *world, struct side sides[SIDES], struct random *random, const uint32_t interfaces[PODS + 1]);
/* Changes one thing, as the engine would while packets come. */
void world_change(struct world *world);
/* Writes what a plugin has decided. */
void world_decide(struct world *world, const struct ask *ask);

#endif
