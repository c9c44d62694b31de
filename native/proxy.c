/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network that the proxy lives in: a namespace that nobody else uses, so that no rule of the node's (address translation,
 * connection tracking, reverse path filters, marks) meets half of what it does.
 *
 * What enters through its veth is local, whatever its address; what leaves goes through the veth. A socket may be bound to any
 * address there: the service's for a client, the pod's for a backend. Processes of the node are served in its own network, on the
 * loopback, and that is where their connections to backends begin.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define INSIDE "proxy"
#define LOCAL_TABLE 100
/* Above the range that pods take their own ports from, so that nobody takes one connection for the other. */
#define PORTS "61000 65535"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static struct engine_state *published;
/* The proxy serves who is connected, and takes nobody new. */
static int closing;
/* Of the network that this process has opened last, or -1; of the one that it was opened from; and the program origin_of. */
static int opened = -1, node = -1, finder = -1;

static int file_write(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC), error = 0;

	if (file < 0)
		return -errno;
	if (write(file, text, strlen(text)) < 0)
		error = -errno;
	close(file);
	return error;
}

/* Where packets enter and leave through one interface, a reverse path says nothing. */
static int reverse_path_unfiltered(const char *interface)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/rp_filter", interface);
	return file_write(path, "0");
}

static int network_fill(void)
{
	static const int families[] = { AF_INET, AF_INET6 };
	static const uint8_t address[] = PROXY_LINK_ADDRESS;
	int error = netlink_link_up("lo", 0, 0);

	error = error ? error : netlink_link_address(INSIDE, address);
	error = error ? error : netlink_link_up(INSIDE, IFF_NOARP, 0);
	error = error ? error : reverse_path_unfiltered("all");
	error = error ? error : reverse_path_unfiltered(INSIDE);
	error = error ? error : file_write("/proc/sys/net/ipv4/ip_local_port_range", PORTS);
	for (int i = 0; i < 2 && !error; i++) {
		/* A kernel without IPv6 has nothing to steer there. */
		if (families[i] == AF_INET6 && access("/proc/sys/net/ipv6", F_OK))
			break;
		error = netlink_rule_add(families[i], INSIDE, LOCAL_TABLE);
		error = error ? error : netlink_route_default(families[i], if_nametoindex("lo"), RTN_LOCAL, LOCAL_TABLE);
		error = error ? error : netlink_route_default(families[i], if_nametoindex(INSIDE), RTN_UNICAST, RT_TABLE_MAIN);
	}
	return error;
}

static int socket_transparent(int socket)
{
	int on = 1;

	return setsockopt(socket, SOL_IP, IP_TRANSPARENT, &on, sizeof(on)) || setsockopt(socket, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof(on));
}

/* Listens on an address, and where programs find the socket. Returns its descriptor, or -errno. */
static int listener_open(const struct sockaddr_in6 *address, int transparent, int listeners, enum proxy_listener index, int backlog)
{
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), off = 0, on = 1, error;
	uint32_t key = index;
	uint64_t value;

	if (listener < 0)
		return -errno;
	value = (uint64_t)listener;
	if (setsockopt(listener, SOL_IPV6, IPV6_V6ONLY, &off, sizeof(off)) || setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    (transparent && socket_transparent(listener)) || bind(listener, (void *)address, sizeof(*address)) || listen(listener, backlog))
		error = -errno;
	else
		error = bpf_map_update_elem(listeners, &key, &value, BPF_ANY);
	if (!error)
		return listener;
	close(listener);
	return error;
}

static void sockets_close(int *sockets)
{
	for (int i = 0; i < PROXY_LISTENER_MAX; i++) {
		if (sockets[i] >= 0)
			close(sockets[i]);
		sockets[i] = -1;
	}
}

/* Listens for processes, in the network of the node. */
static int listeners_open_node(int listeners, int backlog, int *sockets)
{
	struct sockaddr_in6 loopback = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT }, mapped = { .sin6_family = AF_INET6 };

	mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
	mapped.sin6_addr.s6_addr[12] = 127;
	mapped.sin6_addr.s6_addr[15] = 1;
	sockets[PROXY_LISTENER_IPV4] = listener_open(&mapped, 0, listeners, PROXY_LISTENER_IPV4, backlog);
	if (sockets[PROXY_LISTENER_IPV4] < 0)
		return sockets[PROXY_LISTENER_IPV4];
	/* A node without IPv6 addresses has nobody who would connect to one. */
	sockets[PROXY_LISTENER_IPV6] = listener_open(&loopback, 0, listeners, PROXY_LISTENER_IPV6, backlog);
	if (sockets[PROXY_LISTENER_IPV6] < 0 && sockets[PROXY_LISTENER_IPV6] != -EADDRNOTAVAIL)
		return sockets[PROXY_LISTENER_IPV6];
	return 0;
}

static int listener_open_pods(int network, int picker, int listeners, int backlog, int *sockets)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(1) };
	int link;

	sockets[PROXY_LISTENER_PODS] = listener_open(&any, 1, listeners, PROXY_LISTENER_PODS, backlog);
	if (sockets[PROXY_LISTENER_PODS] < 0)
		return sockets[PROXY_LISTENER_PODS];
	link = bpf_link_create(picker, network, BPF_SK_LOOKUP, NULL);
	return link < 0 ? link : 0;
}

static struct engine_state *state_map(int engine_states)
{
	void *memory = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, engine_states, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* Makes the veth from the node's side of things. Returns the index of its interface there, or -errno. */
static int veth_open(const char *interface, int network, int program)
{
	int error = netlink_link_delete(interface);

	error = error ? error : netlink_veth_add(interface, INSIDE, network);
	error = error ? error : netlink_link_up(interface, 0, 0);
	error = error ? error : link_attach_passing(program, if_nametoindex(interface), DIRECTION_EGRESS);
	return error < 0 ? error : (int)if_nametoindex(interface);
}

/* Says to programs that the proxy takes connections. */
static int proxy_publish(int engine_states, int ifindex, int listener)
{
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);

	published = published ? published : state_map(engine_states);
	if (!published)
		return -ENOMEM;
	if (getsockopt(listener, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size))
		return -errno;
	closing = 0;
	proxy_beat();
	__atomic_store_n(&published->network, cookie, __ATOMIC_RELAXED);
	__atomic_store_n(&published->proxy, (uint32_t)ifindex, __ATOMIC_RELEASE);
	return 0;
}

int sluice_proxy__open(const struct sluice_proxy_parts *parts, int *sockets)
{
	int outside = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), network = -1, error, ifindex = 0;

	for (int i = 0; i < PROXY_LISTENER_MAX; i++)
		sockets[i] = -1;
	if (outside < 0)
		return -errno;
	error = listeners_open_node(parts->listeners, parts->backlog, sockets);
	if (!error && unshare(CLONE_NEWNET))
		error = -errno;
	if (!error) {
		network = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
		if (network < 0 || setns(outside, CLONE_NEWNET))
			error = -errno;
	}
	if (!error) {
		ifindex = veth_open(parts->interface, network, parts->program);
		error = ifindex < 0 ? ifindex : setns(network, CLONE_NEWNET) ? -errno : 0;
	}
	error = error ? error : network_fill();
	error = error ? error : listener_open_pods(network, parts->picker, parts->listeners, parts->backlog, sockets);
	error = error ? error : proxy_publish(parts->engine_states, ifindex, sockets[PROXY_LISTENER_IPV4]);
	if (error) {
		sockets_close(sockets);
		(void)setns(outside, CLONE_NEWNET);
		if (network >= 0)
			close(network);
		close(outside);
		return error;
	}
	if (opened >= 0) {
		close(opened);
		close(node);
	}
	opened = network;
	node = outside;
	finder = parts->finder;
	return 0;
}

int sluice_proxy__join(void)
{
	return opened < 0 ? -ENODEV : setns(opened, CLONE_NEWNET) ? -errno : 0;
}

void proxy_beat(void)
{
	if (published && !closing)
		__atomic_store_n(&published->proxy_heartbeat_ns, sluice_kernel__now_ns(), __ATOMIC_RELAXED);
}

void sluice_proxy__close(void)
{
	closing = 1;
	if (published)
		__atomic_store_n(&published->proxy_heartbeat_ns, 0, __ATOMIC_RELAXED);
}

static int address_is_ipv4(const uint8_t *address)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(address, mapped, sizeof(mapped));
}

static socklen_t address_fill(struct sockaddr_storage *storage, const uint8_t *address, uint32_t port)
{
	if (address_is_ipv4(address)) {
		struct sockaddr_in *ipv4 = (void *)storage;

		*ipv4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
		memcpy(&ipv4->sin_addr, address + 12, 4);
		return sizeof(*ipv4);
	}
	struct sockaddr_in6 *ipv6 = (void *)storage;

	*ipv6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	memcpy(&ipv6->sin6_addr, address, 16);
	return sizeof(*ipv6);
}

/* A socket stays in the network that it was made in. Returns its descriptor, or -errno. */
static int socket_make(int family, int of_node)
{
	int made;

	if (of_node && setns(node, CLONE_NEWNET))
		return -errno;
	made = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (made < 0)
		made = -errno;
	if (of_node && setns(opened, CLONE_NEWNET)) {
		if (made >= 0)
			close(made);
		made = -errno;
	}
	return made;
}

/* Has a connection begin at an address of a pod. The port is found when the other end is known: one serves a connection to each backend. */
static int socket_bind(int connection, const struct sockaddr_storage *local, socklen_t length)
{
	int ipv4 = local->ss_family == AF_INET, on = 1;

	if (setsockopt(connection, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) ||
	    (ipv4 ? setsockopt(connection, SOL_IP, IP_TRANSPARENT, &on, sizeof(on))
		  : setsockopt(connection, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof(on))) ||
	    bind(connection, (const void *)local, length))
		return -errno;
	return 0;
}

int sluice_proxy__connect(const uint8_t *from, const uint8_t *to, uint32_t port)
{
	static const uint8_t none[16];
	struct sockaddr_storage local = {}, remote;
	int from_node = !memcmp(from, none, sizeof(none)), on = 1, connection, error = 0;
	socklen_t length = address_fill(&remote, to, port);

	if (!from_node && address_fill(&local, from, 0) != length)
		return -EAFNOSUPPORT;
	connection = socket_make(remote.ss_family, from_node);
	if (connection < 0)
		return connection;
	if (setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		error = -errno;
	if (!error && !from_node)
		error = socket_bind(connection, &local, length);
	if (!error && connect(connection, (void *)&remote, length) && errno != EINPROGRESS)
		error = -errno;
	if (!error)
		return connection;
	close(connection);
	return error;
}

/* What a process meant that is connected to a listener of the proxy. Returns 0, -ENOENT when policy has sent nobody there, or -errno. */
static int proxy_origin(const struct translation *listener, const struct translation *client, struct origin *origin)
{
	struct accepted packet = { .local = *listener, .remote = *client };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = &packet, .data_size_in = sizeof(packet), .data_out = &packet,
		    .data_size_out = sizeof(packet), .repeat = 1);
	int error;

	/* Sockets are looked for in the network of the thread that asks. */
	if (setns(node, CLONE_NEWNET))
		return -errno;
	error = bpf_prog_test_run_opts(finder, &options);
	if (setns(opened, CLONE_NEWNET))
		return -errno;
	if (error || options.retval)
		return error ? error : -ENOENT;
	*origin = packet.origin;
	return 0;
}

static void end_read(struct translation *end, const struct sockaddr_in6 *from)
{
	memcpy(end->address, &from->sin6_addr, sizeof(end->address));
	end->port = from->sin6_port;
}

int proxy_ends(struct sluice_stream_ends *ends, int socket, enum proxy_listener listener)
{
	struct translation client = {}, meant = {};
	struct origin origin = {};
	struct sockaddr_in6 address;
	socklen_t length = sizeof(address);
	int error;

	if (getpeername(socket, (void *)&address, &length))
		return -errno;
	end_read(&client, &address);
	length = sizeof(address);
	if (getsockname(socket, (void *)&address, &length))
		return -errno;
	end_read(&meant, &address);
	if (listener != PROXY_LISTENER_PODS) {
		error = proxy_origin(&meant, &client, &origin);
		if (error)
			return error;
		meant = origin.opened;
	}
	memcpy(ends->remote, client.address, sizeof(ends->remote));
	memcpy(ends->local, meant.address, sizeof(ends->local));
	ends->remote_port = ntohs(client.port);
	ends->local_port = ntohs(meant.port);
	ends->endpoint = origin.endpoint;
	return 0;
}
