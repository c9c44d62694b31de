/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client of the benchmark of names.
 *
 *   resolve query RESOLVER NAME N            N queries for an A record, one after another; the first tenth warms up
 *   resolve fresh RESOLVER SUFFIX FIRST N    resolves nFIRST.SUFFIX and on, and connects to each address at once, port 80
 *   resolve listen                           takes connections on port 80 and closes them
 *
 * Prints one line of JSON: microseconds of a query at p50 and p99, queries a second, connections that failed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 80
/* Below the first retransmission of a SYN: one that is lost is a failure. */
#define CONNECT_MS 500
#define HEADER 12

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

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static struct sockaddr_in address_of(const char *text, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
		fail(text);
	return address;
}

static int resolver_open(const char *text)
{
	struct sockaddr_in address = address_of(text, 53);
	struct timeval limit = { .tv_sec = 2 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (void *)&address, sizeof(address)))
		fail("connect");
	return fd;
}

/* Asks, and waits for the answer with that id. Returns its length, or -1. */
static int ask(int fd, const char *name, unsigned int id, unsigned char *answer)
{
	unsigned char query[300] = { id >> 8, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1 };
	static const unsigned char tail[] = { 0, 0, 1, 0, 1, 0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0 };
	int at = HEADER, length;

	for (const char *label = name; *label;) {
		int bytes = strcspn(label, ".");

		query[at++] = bytes;
		memcpy(query + at, label, bytes);
		at += bytes;
		label += bytes + (label[bytes] == '.');
	}
	memcpy(query + at, tail, sizeof(tail));
	if (send(fd, query, at + sizeof(tail), 0) < 0)
		return -1;
	do
		length = recv(fd, answer, 4096, 0);
	while (length >= HEADER && (unsigned int)(answer[0] << 8 | answer[1]) != (id & 0xffff));
	return length >= HEADER && answer[7] ? length : -1;
}

static void print(double *took, int count, double seconds, int failed)
{
	qsort(took, count, sizeof(*took), compare);
	printf("{\"p50\":%.2f,\"p99\":%.2f,\"perSecond\":%.0f,\"failed\":%d}\n", took[count / 2], took[count * 99 / 100],
	       count / seconds, failed);
}

static void query(const char *resolver, const char *name, int count)
{
	double *took = calloc(count, sizeof(*took)), started = 0;
	int fd = resolver_open(resolver), failed = 0, warm = count / 10;
	unsigned char answer[4096];

	for (int i = -warm; i < count; i++) {
		double before = now_us();

		if (!i)
			started = before;
		if (ask(fd, name, i + warm, answer) < 0)
			failed++;
		if (i >= 0)
			took[i] = now_us() - before;
	}
	print(took, count, (now_us() - started) / 1e6, failed);
}

static int connects(struct in_addr to)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = to };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), error = 0;
	struct linger now = { .l_onoff = 1 };
	socklen_t size = sizeof(error);
	struct pollfd ready = { .fd = fd, .events = POLLOUT };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	if (connect(fd, (void *)&address, sizeof(address)) && errno != EINPROGRESS)
		error = errno;
	else if (poll(&ready, 1, CONNECT_MS) != 1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size))
		error = ETIMEDOUT;
	close(fd);
	return !error;
}

static void fresh(const char *resolver, const char *suffix, int first, int count)
{
	double *took = calloc(count, sizeof(*took)), started = now_us();
	int fd = resolver_open(resolver), failed = 0;
	unsigned char answer[4096];

	for (int i = 0; i < count; i++) {
		double before = now_us();
		struct in_addr address;
		char name[200];
		int length;

		snprintf(name, sizeof(name), "n%d.%s", first + i, suffix);
		length = ask(fd, name, i, answer);
		took[i] = now_us() - before;
		/* One address, the last four bytes but for the EDNS record of eleven. */
		memcpy(&address, answer + length - 11 - 4, sizeof(address));
		if (length < 0 || !connects(address))
			failed++;
	}
	print(took, count, (now_us() - started) / 1e6, failed);
}

static void serve(void)
{
	struct sockaddr_in address = address_of("0.0.0.0", PORT);
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (void *)&address, sizeof(address)) || listen(listener, 1024))
		fail("listen");
	puts("ready");
	fflush(stdout);
	for (;;)
		close(accept(listener, NULL, NULL));
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "query"))
		query(argv[2], argv[3], atoi(argv[4]));
	else if (argc == 6 && !strcmp(argv[1], "fresh"))
		fresh(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]));
	else if (argc == 2 && !strcmp(argv[1], "listen"))
		serve();
	else
		return 2;
	return 0;
}
