"""What operators may do to the streams of a site: pause, begin anew, reposition, skip, reload."""
