DROP TABLE changes;
DROP FUNCTION keygate_notify_changes();
DROP TABLE change_marks;
DROP TABLE pruned_changes;
