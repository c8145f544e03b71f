// Sets CLOCK_TAI - CLOCK_REALTIME to so many seconds, as a time daemon that knows of leap seconds does.
#include <stdio.h>
#include <stdlib.h>
#include <sys/timex.h>

int main(int argc, char **argv)
{
	struct timex timex = { .modes = ADJ_TAI };

	if (argc != 2)
		return 2;
	timex.constant = atol(argv[1]);
	if (adjtimex(&timex) == -1) {
		perror("adjtimex");
		return 1;
	}
	return 0;
}
