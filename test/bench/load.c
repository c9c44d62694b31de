/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark's client and server.
 *
 *   load server PORT              answers each connection's bytes with the same bytes
 *   load client ADDRESS PORT N [FILE]    opens N connections one after another, each sends and receives 64 bytes; then one more
 *                                 connection with N round trips of 64 bytes. What connections say first is FILE's
 *
 * Prints one line of JSON: microseconds, p50, p99, and connections or round trips a second.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BYTES 64
#define FIRST_MAX 16384

/* The first words of a connection. */
static char first[FIRST_MAX];
static size_t first_length = BYTES;

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_in6 address_of(const char *text, int port)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	char mapped[64];

	snprintf(mapped, sizeof(mapped), strchr(text, ':') ? "%s" : "::ffff:%s", text);
	if (inet_pton(AF_INET6, mapped, &address.sin6_addr) != 1)
		fail(text);
	return address;
}

static void serve(int port)
{
	struct sockaddr_in6 address = address_of("::", port);
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, events = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener };

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (void *)&address, sizeof(address)) || listen(listener, 1024))
		fail("listen");
	epoll_ctl(events, EPOLL_CTL_ADD, listener, &event);
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct epoll_event ready[64];
		int count = epoll_wait(events, ready, 64, -1);

		for (int i = 0; i < count; i++) {
			int fd = ready[i].data.fd;
			char buffer[FIRST_MAX];
			ssize_t got;

			if (fd == listener) {
				event.data.fd = accept(listener, NULL, NULL);
				if (event.data.fd >= 0) {
					setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
					epoll_ctl(events, EPOLL_CTL_ADD, event.data.fd, &event);
				}
				continue;
			}
			got = read(fd, buffer, sizeof(buffer));
			if (got <= 0 || write(fd, buffer, got) != got)
				close(fd);
		}
	}
}

static int open_connection(const struct sockaddr_in6 *address)
{
	struct linger reset = { 1, 0 };
	int on = 1, fd = socket(AF_INET6, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (const void *)address, sizeof(*address)))
		fail("connect");
	return fd;
}

static void round_trip(int fd, const char *bytes, size_t length)
{
	char buffer[FIRST_MAX];
	size_t got = 0;

	if (write(fd, bytes, length) != (ssize_t)length)
		fail("write");
	while (got < length) {
		ssize_t n = read(fd, buffer + got, length - got);

		if (n <= 0)
			fail("read");
		got += n;
	}
}

static void read_first(const char *path)
{
	FILE *file = fopen(path, "r");

	if (!file)
		fail(path);
	first_length = fread(first, 1, sizeof(first), file);
	fclose(file);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_times(const char *name, double *times, int n)
{
	qsort(times, n, sizeof(*times), compare);
	printf("\"%s\":{\"p50\":%.2f,\"p99\":%.2f,\"max\":%.2f},", name, times[n / 2], times[(int)(n * 0.99)], times[n - 1]);
}

static void measure_connections(const struct sockaddr_in6 *address, int n)
{
	double *connects = calloc(n, sizeof(double)), *wholes = calloc(n, sizeof(double)), begin = now_us();

	for (int i = 0; i < n; i++) {
		double start = now_us();
		int fd = open_connection(address);

		connects[i] = now_us() - start;
		round_trip(fd, first, first_length);
		close(fd);
		wholes[i] = now_us() - start;
	}
	begin = now_us() - begin;
	print_times("connect", connects, n);
	print_times("whole", wholes, n);
	printf("\"perSecond\":%.0f,", n / begin * 1e6);
}

static void measure_trips(const struct sockaddr_in6 *address, int n)
{
	double *trips = calloc(n, sizeof(double));
	int fd = open_connection(address);
	char zeros[BYTES] = "";

	round_trip(fd, first, first_length);
	for (int i = 0; i < n; i++) {
		double start = now_us();

		round_trip(fd, zeros, BYTES);
		trips[i] = now_us() - start;
	}
	print_times("trip", trips, n);
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 address;
	int n;

	if (argc == 3 && !strcmp(argv[1], "server"))
		serve(atoi(argv[2]));
	if (argc < 5 || argc > 6 || strcmp(argv[1], "client"))
		return 2;
	if (argc == 6)
		read_first(argv[5]);
	address = address_of(argv[2], atoi(argv[3]));
	n = atoi(argv[4]);
	printf("{");
	measure_connections(&address, n);
	measure_trips(&address, n);
	printf("\"count\":%d}\n", n);
	return 0;
}
