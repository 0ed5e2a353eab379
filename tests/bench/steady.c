// Asks at a fixed rate, whether answers come or not, and tells how long they took.
//
// Usage: steady PORT RATE SECONDS CONNECTIONS [WORD...]. Out: one line of JSON, times in microseconds.
// Paths are /WORD/NUMBER, with each of the words in turn; without any with "item".
// A request's time begins when it was due, not when a connection was free for it: a server that stands still for a
// second is seen by all requests that were due in that second (no "coordinated omission").
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, BUFFER = 16384 };
#define SECOND 1000000000LL

struct connection {
	long request; // that waits for its answer; -1: none
	int got, closes;
	char answer[BUFFER + 1];
};

static struct pollfd polled[MOST]; // fd -1: to be connected when it is needed
static struct connection connections[MOST];
static struct sockaddr_in address;
static long long start, *took;
static double rate;
static long total, next, done, failed;
static char **ways = (char *[]){"item"};
static int way_count = 1;

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

static long long due(long request)
{
	return start + (long long)(request * (SECOND / rate));
}

static void hang_up(int slot)
{
	close(polled[slot].fd);
	polled[slot].fd = -1;
}

static void finish(int slot, int good)
{
	struct connection *c = &connections[slot];
	took[done++] = now() - due(c->request);
	failed += !good;
	c->request = -1;
	if (!good || c->closes)
		hang_up(slot);
}

static void ask(int slot, long request)
{
	struct connection *c = &connections[slot];
	char text[128];
	int one = 1;
	int size = snprintf(text, sizeof text, "GET /%s/%ld HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
			    ways[request % way_count], request);

	c->request = request;
	c->got = c->closes = 0;
	if (polled[slot].fd < 0) {
		polled[slot].fd = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(polled[slot].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (connect(polled[slot].fd, (struct sockaddr *)&address, sizeof address)) {
			finish(slot, 0);
			return;
		}
	}
	if (send(polled[slot].fd, text, size, MSG_NOSIGNAL) != size)
		finish(slot, 0);
}

static void hear(int slot)
{
	struct connection *c = &connections[slot];
	char *body, *length;
	ssize_t size = recv(polled[slot].fd, c->answer + c->got, BUFFER - c->got, MSG_DONTWAIT);

	if (size < 0 && errno == EAGAIN)
		return;
	if (c->request < 0) { // nothing was asked: the server has had enough of this connection
		hang_up(slot);
		return;
	}
	if (size <= 0) {
		finish(slot, 0);
		return;
	}
	c->got += size;
	c->answer[c->got] = 0;
	if (!(body = strstr(c->answer, "\r\n\r\n")))
		return;
	c->closes = !!strcasestr(c->answer, "\r\nconnection: close");
	length = strcasestr(c->answer, "\r\ncontent-length:");
	if (!length || strncmp(c->answer, "HTTP/1.1 200 ", 13))
		finish(slot, 0);
	else if (c->got >= body + 4 - c->answer + atol(length + 17))
		finish(slot, 1);
}

static int ascending(const void *a, const void *b)
{
	long long x = *(const long long *)a, y = *(const long long *)b;
	return (x > y) - (x < y);
}

static double percentile(double share)
{
	return took[(long)(share * (done - 1))] / 1e3;
}

int main(int count, char **words)
{
	int slots = count > 4 ? atoi(words[4]) : 0;
	long long last;

	if (slots < 1 || slots > MOST)
		return 2;
	if (count > 5) {
		ways = words + 5;
		way_count = count - 5;
	}
	rate = atof(words[2]);
	total = rate * atof(words[3]);
	took = calloc(total, sizeof *took);
	address.sin_family = AF_INET;
	address.sin_port = htons(atoi(words[1]));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int slot = 0; slot < slots; slot++) {
		polled[slot] = (struct pollfd){.fd = -1, .events = POLLIN};
		connections[slot].request = -1;
	}
	prctl(PR_SET_TIMERSLACK, 1UL);
	start = now();
	while (done < total) {
		int slot = 0;

		while (next < total && due(next) <= now()) {
			while (slot < slots && connections[slot].request >= 0)
				slot++;
			if (slot == slots)
				break;
			ask(slot, next++);
		}
		long long wait = due(next) - now();
		struct timespec pause = {.tv_nsec = wait < 0 ? 0 : wait < SECOND ? wait : SECOND - 1};
		// with no connection free, only an answer changes anything
		if (ppoll(polled, slots, slot < slots && next < total ? &pause : NULL, NULL) <= 0)
			continue;
		for (slot = 0; slot < slots; slot++)
			if (polled[slot].fd >= 0 && polled[slot].revents)
				hear(slot);
	}
	last = now();
	qsort(took, done, sizeof *took, ascending);
	printf("{\"requests\": %ld, \"failed\": %ld, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", done, failed,
	       done * (double)SECOND / (last - start), percentile(.5), percentile(.99));
	return 0;
}
