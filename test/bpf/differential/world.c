/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define RULE_SETS 6
#define FIRST_RULE_SET 300
#define IDENTITIES 8
#define FIRST_IDENTITY 400
#define PATTERNS 4
#define FIRST_PATTERN 600
#define BACKEND_SETS 4
#define FIRST_BACKEND_SET 700
#define RULES 40
#define LONG_S 36000
#define FOREVER_NS (1ull << 60)

static const char *const ipv4_addresses[] = { "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.9", "10.0.0.53", "10.0.255.1", "10.96.0.1",
					       "10.96.0.2", "192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.7", "127.0.0.1" };
static const char *const ipv6_addresses[] = { "fd00::1", "fd00::2", "fd00::3", "fd00::4", "fd00::9", "fd00::53", "fd00::ff01", "fd00:96::1",
					       "fd00:96::2", "2001:db8::1", "2001:db8::2", "2001:db8::3", "fe80::1", "::1" };
static const char *const networks[] = { "10.0.0.0", "192.0.2.0", "10.0.0.0", "fd00::", "2001:db8::" };
static const uint32_t network_bits[] = { 96 + 8, 96 + 24, 96 + 30, 64, 32 };
const uint16_t world_ports[] = { 53, 53, 80, 80, 443, 443, 853, 8080, 9000, 22 };
const uint32_t world_port_count = sizeof(world_ports) / sizeof(world_ports[0]);
static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_ICMP, IPPROTO_ICMPV6 };
static const uint32_t plugin_ids[] = { 7, 8, 9, ABI_ROUTES, ABI_PIECES, ABI_SERVER_NAMES };

static struct address address_of(const char *text)
{
	struct address address = {};

	if (strchr(text, ':')) {
		inet_pton(AF_INET6, text, address.bytes);
	} else {
		address.bytes[10] = address.bytes[11] = 0xff;
		inet_pton(AF_INET, text, address.bytes + 12);
	}
	return address;
}

struct address world_address(struct random *random, int v4)
{
	return address_of(v4 ? RANDOM_OF(random, ipv4_addresses) : RANDOM_OF(random, ipv6_addresses));
}

/*
 * As rules can be: what is asked about DNS has none, and requests are decided over TCP, where they are sent. Rule sets of the second
 * half are for what endpoints send.
 */
static struct rule rule_make(struct random *random, uint32_t rule_set, uint8_t protocol)
{
	static const uint32_t by_context[] = { 7, 8, ABI_SERVER_NAMES, ABI_ROUTES };
	int requests = rule_set >= FIRST_RULE_SET + RULE_SETS / 2 && protocol == IPPROTO_TCP;
	struct rule rule = { .id = 1 + random_below(random, RULES) };
	uint32_t kind = random_below(random, 100);

	if (kind < 45) {
		rule.action = ACTION_ALLOW;
	} else if (kind < 65) {
		rule.action = ACTION_DENY;
	} else {
		rule.action = ACTION_ASK;
		rule.context = random_percent(random, 40) ? CONTEXT_CONNECT : requests && random_percent(random, 60) ? CONTEXT_HTTP : CONTEXT_TLS;
		rule.plugin = random_percent(random, 50) ? 7 + random_below(random, 3) : by_context[rule.context];
	}
	return rule;
}

static void ports_put(struct world *world, uint32_t rule_set, uint32_t table, uint32_t *prefixes)
{
	struct random *random = world->random;

	for (uint32_t i = 0; i < 4; i++) {
		uint32_t bits = random_percent(random, 50) ? 16 : random_below(random, 17);
		struct port_key key = { .port_table = table, .protocol = RANDOM_OF(random, protocols), .prefix_bits = (uint8_t)bits };
		struct rule rule = rule_make(random, rule_set, key.protocol);

		key.port = (uint16_t)(world_ports[random_below(random, world_port_count)] & ~((1u << (16 - bits)) - 1));
		*prefixes |= 1u << bits;
		sides_put(world->sides, "ports", &key, &rule);
	}
}

static void policy_put(struct world *world, uint32_t rule_set)
{
	struct random *random = world->random;
	uint32_t which = random_below(random, IDENTITIES + 3);
	struct policy_key key = { .rule_set = rule_set, .identity = which < 3 ? which : FIRST_IDENTITY + which - 3 };
	struct policy_entry entry = { .other = rule_make(random, rule_set, 0) };

	for (int i = 0; i < ABI_PORTS_NEAR; i++) {
		struct port_rule *near = &entry.near[i];
		uint16_t port = world_ports[random_below(random, world_port_count)];

		if (random_percent(random, 30))
			continue;
		near->protocol = RANDOM_OF(random, protocols);
		near->rule = rule_make(random, rule_set, near->protocol);
		near->first = port;
		near->last = (uint16_t)(port + random_below(random, 3) * 100);
	}
	if (random_percent(random, 40)) {
		/* A table is of the rule sets of one direction. */
		entry.port_table = 1 + random_below(random, 32) + (rule_set >= FIRST_RULE_SET + RULE_SETS / 2 ? 32 : 0);
		ports_put(world, rule_set, entry.port_table, &entry.prefixes);
	}
	sides_put(world->sides, "policies", &key, &entry);
}

static uint32_t rule_set_pick(struct random *random, enum direction direction)
{
	if (random_percent(random, 20))
		return RULE_SET_NONE;
	return random_percent(random, 3) ? RULE_SET_CLOSED : FIRST_RULE_SET + direction * RULE_SETS / 2 + random_below(random, RULE_SETS / 2);
}

static void endpoint_put(struct world *world, uint32_t index)
{
	struct random *random = world->random;
	struct home *home = &world->homes[index];
	struct endpoint endpoint = { .identity = home->identity, .flags = random_percent(random, 60) ? ENDPOINT_NAMES : 0 };

	memcpy(endpoint.ipv4, home->addresses[0].bytes, 16);
	if (!random_percent(random, 5))
		memcpy(endpoint.ipv6, home->addresses[1].bytes, 16);
	for (int i = 0; i < 2; i++) {
		endpoint.rule_sets[i] = rule_set_pick(random, (enum direction)i);
		endpoint.confirmed[i] = rule_set_pick(random, (enum direction)i);
	}
	if (random_percent(random, 10))
		endpoint.confirm_by_ns = random_percent(random, 50) ? 1 : FOREVER_NS;
	if (random_percent(random, 30)) {
		endpoint.dns_plugin = 9;
		endpoint.dns_rule = 5;
	}
	sides_put(world->sides, "endpoints", &home->id, &endpoint);
}

static void peers_put(struct world *world)
{
	struct random *random = world->random;
	uint32_t one = 1;

	for (uint32_t i = 0; i < 2 * sizeof(ipv4_addresses) / sizeof(ipv4_addresses[0]); i++) {
		struct address address = address_of(i & 1 ? ipv6_addresses[i / 2] : ipv4_addresses[i / 2]);
		uint32_t identity = FIRST_IDENTITY + random_below(random, IDENTITIES);

		if (random_percent(random, 60))
			sides_put(world->sides, "peers", &address, &identity);
		if (random_percent(random, 10))
			sides_put(world->sides, "node_addresses", &address, &one);
	}
	for (uint32_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++) {
		struct network_key key = { .prefix_bits = network_bits[i] };
		uint32_t identity = FIRST_IDENTITY + random_below(random, IDENTITIES);

		memcpy(key.address, address_of(networks[i]).bytes, 16);
		if (random_percent(random, 60))
			sides_put(world->sides, "networks", &key, &identity);
	}
}

static void names_put(struct world *world)
{
	struct random *random = world->random;
	struct plan *plan = world->sides->plan;
	struct address resolvers[] = { address_of("10.0.0.53"), address_of("fd00::53") };
	uint32_t one = 1;

	for (uint32_t i = 0; i < plan->name_count; i++) {
		struct name_pattern pattern = { .exact = random_percent(random, 60) ? FIRST_PATTERN + random_below(random, PATTERNS) : 0,
						.wildcard = random_percent(random, 40) ? FIRST_PATTERN + random_below(random, PATTERNS) : 0,
						.length = plan->names[i].length };

		memcpy(pattern.name, plan->names[i].wire, plan->names[i].length);
		if (random_percent(random, 70))
			sides_put(world->sides, "name_patterns", &plan->names[i].hash, &pattern);
	}
	for (uint32_t i = 0; i < RULE_SETS * PATTERNS; i++) {
		struct named_key key = { .rule_set = FIRST_RULE_SET + i / PATTERNS, .pattern = FIRST_PATTERN + i % PATTERNS };
		uint32_t set = FIRST_RULE_SET + RULE_SETS / 2 + random_below(random, RULE_SETS / 2);

		if (random_percent(random, 70))
			sides_put(world->sides, "named_rule_sets", &key, &set);
	}
	for (uint32_t i = 0; i < 2; i++)
		if (random_percent(random, 85))
			sides_put(world->sides, "resolvers", &resolvers[i], &one);
}

static void backends_put(struct world *world)
{
	struct random *random = world->random;

	for (uint32_t set = FIRST_BACKEND_SET; set < FIRST_BACKEND_SET + BACKEND_SETS; set++) {
		struct backend_set count = { .ipv4 = random_below(random, 4), .ipv6 = random_below(random, 4) };

		sides_put(world->sides, "backend_sets", &set, &count);
		for (uint32_t i = 0; i < 8; i++) {
			struct backend_key key = { .set = set, .index = i / 2 | (i & 1 ? BACKEND_INDEX_IPV6 : 0) };
			struct translation backend = { .port = htons(random_percent(random, 50) ? 8080 : 80) };

			memcpy(backend.address, world_address(random, !(i & 1)).bytes, 16);
			sides_put(world->sides, "backends", &key, &backend);
		}
	}
	for (uint32_t i = 0; i < 4; i++) {
		static const char *const services[] = { "10.96.0.1", "10.96.0.2", "fd00:96::1", "fd00:96::2" };
		struct service_key key = { .port = htons(80), .protocol = IPPROTO_TCP };
		struct service service = { .set = FIRST_BACKEND_SET + random_below(random, BACKEND_SETS) };

		memcpy(key.address, address_of(services[i]).bytes, 16);
		sides_put(world->sides, "services", &key, &service);
	}
	for (uint32_t rule = 1; rule <= RULES; rule++) {
		uint32_t set = random_percent(random, 50) ? BACKEND_SET_SERVICE : FIRST_BACKEND_SET + random_below(random, BACKEND_SETS);

		if (random_percent(random, 40))
			sides_put(world->sides, "rule_backends", &rule, &set);
	}
}

static void plugin_put(struct world *world, uint32_t id)
{
	struct random *random = world->random;
	struct plugin_state *plugin = &world->plugins[id];

	plugin->epoch = 1 + random_below(random, 3);
	plugin->failure = random_percent(random, 50) ? VERDICT_ALLOW : VERDICT_DENY;
	plugin->status = random_percent(random, 80) ? PLUGIN_ON : PLUGIN_OFF;
	plugin->scopes = (uint8_t)random_below(random, 8);
	sides_put(world->sides, "plugins", &id, plugin);
}

static void policy_state_put(struct world *world)
{
	uint32_t zero = 0;

	sides_put(world->sides, "policy_states", &zero, &world->policy);
}

static void engine_put(struct world *world)
{
	uint32_t present = random_below(world->random, 10);

	world->engine = (struct engine_state){ .heartbeat_ns = 1, .stale_ns = FOREVER_NS, .abi_version = ABI_VERSION, .token = TOKEN,
					       .sink = 1, .proxy = world->proxy, .proxy_heartbeat_ns = 1 };
	if (present == 0)
		world->engine.proxy = 0;
	if (present == 1)
		world->engine.stale_ns = 1;
	sides_engine(world->sides, &world->engine);
	for (int id = SIDE_OLD; id < SIDES; id++) {
		side_gate(&world->sides[id], GATE_ENGINE, present != 2);
		side_gate(&world->sides[id], GATE_PROXY, present != 2 && present != 3);
	}
}

static void local_put(struct world *world)
{
	for (uint32_t i = 0; i < PODS; i++) {
		struct local_endpoint local = { .id = world->homes[i].id, .peered = random_percent(world->random, 50) };

		for (int family = 0; family < 2; family++)
			sides_put(world->sides, "local_endpoints", &world->homes[i].addresses[family], &local);
	}
}

void world_make(struct world *world, struct side sides[SIDES], struct random *random, const uint32_t interfaces[PODS + 1])
{
	memset(world, 0, sizeof(*world));
	world->sides = sides;
	world->random = random;
	world->proxy = interfaces[PODS];
	for (uint32_t i = 0; i < ENDPOINTS; i++)
		world->homes[i] = (struct home){ .id = i < PODS ? interfaces[i] : ENDPOINT_ID_CGROUP + i, .identity = FIRST_IDENTITY + i,
						 .addresses = { address_of(ipv4_addresses[i]), address_of(ipv6_addresses[i]) } };
	/* Lives are longer than a run, so that nothing ends between the two; shares are small now and then, so that they are met. */
	world->policy = (struct policy_state){ .revision = 1, .hash_seed = 1 + random_below(random, 1u << 30),
					       .connections_share = random_percent(random, 20) ? 8 : 1 << 16, .opening_s = LONG_S, .established_s = LONG_S,
					       .closing_s = LONG_S, .unanswered_s = LONG_S, .answered_s = LONG_S,
					       .addresses_share = random_percent(random, 20) ? 4 : 1 << 14, .name_minimum_s = LONG_S,
					       .refusal = random_percent(random, 50) ? 3 : 5,
					       .flags = random_percent(random, 50) ? POLICY_REFUSE_OUTSIDE : 0 };
	policy_state_put(world);
	peers_put(world);
	for (uint32_t i = 0; i < RULE_SETS * 5; i++)
		policy_put(world, FIRST_RULE_SET + i / 5);
	for (uint32_t i = 0; i < ENDPOINTS; i++)
		endpoint_put(world, i);
	names_put(world);
	backends_put(world);
	local_put(world);
	for (uint32_t i = 0; i < sizeof(plugin_ids) / sizeof(plugin_ids[0]); i++)
		plugin_put(world, plugin_ids[i]);
	engine_put(world);
}

void world_change(struct world *world)
{
	struct random *random = world->random;
	uint32_t index = random_below(random, ENDPOINTS);

	switch (random_below(random, 8)) {
	case 0:
		policy_put(world, FIRST_RULE_SET + random_below(random, RULE_SETS));
		break;
	case 1:
		endpoint_put(world, index);
		break;
	case 2:
		plugin_put(world, RANDOM_OF(random, plugin_ids));
		return;
	case 3:
		engine_put(world);
		return;
	case 4:
		if (random_percent(random, 80))
			return;
		sides_delete(world->sides, "endpoints", &world->homes[index].id);
		return;
	case 5:
		peers_put(world);
		break;
	case 6:
		local_put(world);
		return;
	default:
		break;
	}
	world->policy.revision++;
	policy_state_put(world);
}

void world_decide(struct world *world, const struct ask *ask)
{
	static const uint8_t scopes[] = { SCOPE_FLOW, SCOPE_ADDRESS, SCOPE_IDENTITY };
	struct random *random = world->random;
	struct plugin_state *plugin = &world->plugins[ask->plugin & (ABI_PLUGINS_MAX - 1)];
	struct verdict_key key = { .plugin = ask->plugin, .protocol = ask->protocol, .scope = RANDOM_OF(random, scopes), .direction = ask->direction,
				   .context = ask->context, .destination_port = ask->destination_port };
	struct verdict_entry entry = { .expires_ns = FOREVER_NS, .epoch = plugin->epoch, .once = random_percent(random, 20),
				       .verdict = random_percent(random, 60) ? VERDICT_ALLOW : VERDICT_DENY };

	if (ask->context == CONTEXT_HTTP && random_percent(random, 50)) {
		entry.verdict = VERDICT_ROUTE;
		entry.backend_set = FIRST_BACKEND_SET + random_below(random, BACKEND_SETS);
	}
	if (key.scope == SCOPE_IDENTITY) {
		key.source_identity = ask->source_identity;
		key.destination_identity = ask->destination_identity;
	} else {
		memcpy(key.source, ask->source, 16);
		memcpy(key.destination, ask->destination, 16);
		if (key.scope == SCOPE_FLOW)
			key.source_port = ask->source_port;
	}
	plugin->scopes |= key.scope;
	sides_put(world->sides, "plugins", &ask->plugin, plugin);
	sides_put(world->sides, "verdicts", &key, &entry);
}
