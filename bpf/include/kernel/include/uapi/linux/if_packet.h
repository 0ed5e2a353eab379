/* Empty on purpose: bcc includes it, programs here use nothing of it. */
