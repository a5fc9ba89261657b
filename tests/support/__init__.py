"""What tests share: live servers, toy models, peers and runs."""
