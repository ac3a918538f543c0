"""Plans for people: what the terminal and a pull request show. Every view is made from the plan alone."""
