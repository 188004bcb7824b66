"""`sagapost outbox parked ...` with a relay that answers: exit statuses and what is said."""

import json
import subprocess
import threading
import uuid

from harness.sandbox import PROGRAMS
from harness.wait import patient, wait_until


def park(place, count, key):
    """Messages for a queue that is not there: the first is parked, the others wait behind it. Their ids, in order."""
    ids = [place.value("select outbox.publish('nowhere', '{}', key => %s)::text", (key,)) for _ in range(count)]
    wait_until(lambda: place.value("select count(*) from outbox.parked where key = %s and state in ('parked', 'behind')", (key,)) == count, 30, "parked")
    return ids


def test_discard_requeue_and_refusals(place, daemons):
    daemons("outbox-relay", "--unroutable-grace", "0ms", "--fallback-interval", "200ms").wait_ready()
    first, second, _ = park(place, 3, "a")
    other, *_ = park(place, 1, "b")
    assert {row["message_id"] for row in json.loads(place.sagapost("outbox", "parked", "list", "--json", "--state", "parked"))} == {first, other}
    assert "behind" in place.sagapost("outbox", "parked", "requeue", second, "--wait", "3min", expect=4)
    assert f"{second}: would be asked for" in place.sagapost("outbox", "parked", "discard", second, "--dry-run")
    assert place.value("select count(*) from outbox.intent where message_id = %s and verb = 'discard'", (second,)) == 0
    place.sagapost("outbox", "parked", "discard", second, "--wait", "3min", "--reason", "a test")
    assert place.value("select answer from outbox.intent order by id desc limit 1") == "discarded"
    assert second in place.sagapost("outbox", "parked", "show", second, expect=3)

    place.channel().queue_declare("nowhere")
    assert "done" in place.sagapost("outbox", "parked", "requeue", first, other, "--wait", "3min", "--reason", "the queue is there")
    wait_until(lambda: place.value("select count(*) from outbox.parked") == 0, 30, "all were published")
    assert place.channel().queue_declare("nowhere", passive=True).method.message_count == 3
    assert "no message" in place.sagapost("outbox", "parked", "discard", str(uuid.uuid4()), expect=3)


def test_many_at_once(place, daemons):
    """All that a filter finds; what waits behind follows by itself."""
    relay = daemons("outbox-relay", "--unroutable-grace", "0ms", "--fallback-interval", "200ms").wait_ready()
    park(place, 3, "a")
    other, *_ = park(place, 1, "b")
    place.value("select outbox.publish('elsewhere', '{}')::text")
    wait_until(lambda: place.value("select count(*) from outbox.parked where state = 'parked'") == 3, 30, "three are parked")
    change = ("outbox", "parked")
    for words, said in ((("requeue",), "--all"), (("requeue", "--state", "behind"), "follow"), (("discard", "--state", "x"), "waiting, parked, behind")):
        assert said in place.sagapost(*change, *words, expect=2)
    assert [row["type"] for row in json.loads(place.sagapost(*change, "discard", "--type", "elsewhere", "--dry-run", "--json"))] == ["elsewhere"]
    assert json.loads(place.sagapost(*change, "discard", "--type", "elsewhere", "--json")) == {"verb": "discard", "applied": 1, "refused": 0, "unanswered": 0}
    assert "0 applied" in place.sagapost(*change, "discard", "--key", "nobody's")
    place.channel().queue_declare("nowhere")
    assert "requeue: 1 applied, 0 refused, 0 not answered" in place.sagapost(*change, "requeue", "--all", "--limit", "1", "--reason", "the queue is there")
    assert place.value("select reason from outbox.intent order by id desc limit 1") == "the queue is there"
    assert "requeue: 1 applied" in place.sagapost(*change, "requeue", "--all", "--wait", "30s")
    wait_until(lambda: place.value("select count(*) from outbox.parked") == 0, 30, "all were published")
    assert place.channel().queue_declare("nowhere", passive=True).method.message_count == 4
    assert place.value("select count(*) from outbox.intent where message_id = %s", (other,)) == 1

    # Nobody is there to answer: it stays recorded, and says so.
    place.channel().queue_delete("nowhere")
    park(place, 1, "c")
    relay.terminate()
    assert "1 are recorded, but no relay has answered" in place.sagapost(*change, "discard", "--all", "--wait", "100ms", expect=1)


def test_a_list_says_that_there_may_be_more(place):
    place.sql("select saga.define('many'); select saga.step('many', 'a', action => 'x.y', kind => 'read_only'); select saga.publish('many')")
    place.sql("select saga.start('many', '{}') from generate_series(1, 50)")
    for words, said in ((), "sagapost: these are 50; there may be more: --limit\n"), (("--limit", "50"), ""), (("--state", "STUCK"), ""):
        done = subprocess.run([PROGRAMS["sagapost"], "saga", "list", *words], env=place.environment(), capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr == said


def test_what_somebody_else_wrote_does_not_drive_the_terminal(place, daemons):
    daemons("outbox-relay", "--unroutable-grace", "0ms").wait_ready()
    key = "a\x1b]0;owned\x07\nb\tc\x9bd\x7f ü"
    [message] = park(place, 1, key)
    place.sql("update outbox.parked set detail = %s", ("\x1b[2J\r",))
    for words in (("list",), ("show", message)):
        told = place.sagapost("outbox", "parked", *words)
        assert not any(character < " " or "\x7f" <= character < "\xa0" for character in told if character != "\n"), repr(told)
        assert r"a\u001b]0;owned\u0007\nb\tc\u009bd\u007f ü" in told
    assert r"\u001b[2J\r" in place.sagapost("outbox", "parked", "show", message)
    # Programs get the text as it is.
    assert json.loads(place.sagapost("outbox", "parked", "show", message, "--json"))["key"] == key
    assert [row["key"] for row in json.loads(place.sagapost("outbox", "parked", "list", "--json"))] == [key]


def test_an_intent_that_the_relay_refuses(place, daemons):
    """Two people want the same: the second is told that it is gone."""
    relay = daemons("outbox-relay", "--unroutable-grace", "0ms", "--fallback-interval", "200ms").wait_ready()
    [message] = park(place, 1, "a")
    relay.terminate()
    place.sql("select outbox.discard(%s)", (message,))
    said = []
    waiting = threading.Thread(
        target=lambda: said.append(place.sagapost("outbox", "parked", "discard", message, "--wait", "1min", expect=4)), daemon=True
    )
    waiting.start()
    wait_until(lambda: place.value("select count(*) from outbox.intent") == 2, 30, "both have asked")
    daemons("outbox-relay").wait_ready()
    waiting.join(patient(60))
    assert said == ["sagapost: the relay refused: it is not parked any more\n"]
